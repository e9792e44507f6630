"""This node's server: who uses it, where it is, and how it comes to be.

In a folder that only this user can enter lie

- ``users``: every open connector has a shared lock on it, and so, when the last one is gone, however it
  went, the server gets an exclusive one and leaves;
- ``serving``: the server has it locked as long as it runs;
- ``starting``: whoever starts a server has it locked;
- ``card``: what the server says of itself; ``socket``: where it listens; ``log``: its last words;
- ``writer-*``: files that processes have locked which write large objects.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from isthmus.connectors.naming import host_id
from isthmus.connectors.polling import poll
from isthmus.connectors.shm.area import private_folder
from isthmus.connectors.unfinished import try_lock
from isthmus.connectors.zmq.access import listening_address
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from isthmus.connectors.zmq.access import ZmqSpec
    from isthmus.connectors.zmq.credentials import Credentials

__all__ = ["Card", "Node", "node_id", "running", "runtime_folder"]

_SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
# What a script can import is not always what `-m` finds: an interpreter is told where we are.
_START = f"import sys; sys.path.append({_SOURCE!r}); from isthmus.connectors.zmq.server import main; main()"
# Chunks come and go: memory for the next ones is not given back to the kernel at once, for pages
# that are fresh from there cost more than the copy into them.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 27)}


class Card(NamedTuple):
    """A running server of this node."""

    identity: str
    """``node-key-random``, in hex: where it runs, which secret it knows, and which start of it."""
    address: str
    port: int
    socket: str
    """Path of its unix socket."""
    pid: int


def node_id() -> str:
    """Return eight hex digits for this boot of this host, and its network."""
    try:
        network = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        network = 0
    return host_id(f"network {network}")


def runtime_folder() -> str:
    """Return the folder for the sockets and locks of this user's servers on this node.

    ``ISTHMUS_ZMQ_DIR`` names another place for it than ``/tmp``. Processes share a server only if they
    agree.
    """
    chosen = os.environ.get("ISTHMUS_ZMQ_DIR")
    # Not TMPDIR, which is often another for each job; not XDG_RUNTIME_DIR, which batch jobs lack.
    top = chosen or ("/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir())
    return os.path.join(os.path.abspath(top), f"isthmus-zmq-{os.getuid()}")


class Node:
    """A user's part in this node's server of one name; to have one starts nothing.

    Raises:
        BrokenError: the folder cannot be used.
    """

    def __init__(self, spec: ZmqSpec, credentials: Credentials) -> None:
        self._spec = spec
        self._credentials = credentials
        self._writer: tuple[str, int] | None = None
        top = runtime_folder()
        self.folder = os.path.join(top, node_id(), spec.name)
        self._socket = os.path.join(self.folder, "socket")
        if len(os.fsencode(self._socket)) > 107:
            raise BrokenError(
                self._socket,
                "is too long for a unix socket; let ISTHMUS_ZMQ_DIR name a folder with a short path",
            )
        try:
            os.makedirs(os.path.dirname(top), exist_ok=True)
            for folder in (top, os.path.dirname(self.folder), self.folder):
                private_folder(folder)
            self._users = _open(self.folder, "users")
        except OSError as error:
            if isinstance(error, BrokenError):
                raise
            raise BrokenError(
                self.folder, f"{error.strerror}; let ISTHMUS_ZMQ_DIR name a folder of yours"
            ) from error
        self._serving: int | None = None
        try:
            self._serving = _open(self.folder, "serving")
            # A server that is about to leave has this one for a moment.
            if not poll(lambda: try_lock(self._users, shared=True) is not False, spec.timeout):
                raise BrokenError(
                    self.folder, f"the server there did not leave within {spec.timeout:g} s"
                )
        except BaseException:
            self.close()
            raise

    def card(self) -> Card | None:
        """Return what the running server says of itself; None if there is none."""
        return _card(self.folder)

    def is_served(self) -> bool:
        """Return whether a server runs; a killed one does not from that moment on."""
        if self._serving is not None and try_lock(self._serving, shared=True):
            fcntl.flock(self._serving, fcntl.LOCK_UN)
            return False
        return True

    def start(self) -> Card:
        """Return the running server, started if there is none.

        Raises:
            BrokenError: it does not start; says why.
            SpecError: this node has no such address.
            MissingSecretError: the secret key that was named is not here.
        """
        starting = _open(self.folder, "starting")
        try:
            if not poll(lambda: try_lock(starting) is not False, self._spec.timeout):
                raise BrokenError(
                    self.folder,
                    f"another process has been starting a server for {self._spec.timeout:g} s",
                )
            card = self.card()
            if card is None:
                self._launch()
                card = self.card()
        finally:
            os.close(starting)
        if card is None:
            raise BrokenError(self.folder, "the server left as soon as it was started")
        return card

    def writer(self) -> str:
        """Return the name of a file that this process has locked."""
        if self._writer is None:
            name = f"writer-{os.getpid():x}-{os.urandom(4).hex()}"
            fd = _open(self.folder, name)
            try_lock(fd)
            self._writer = (name, fd)
        return self._writer[0]

    def close(self) -> None:
        """Be no user any more; the last one's server leaves."""
        if self._writer is not None:
            name, fd = self._writer
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.folder, name))
            os.close(fd)
        os.close(self._users)
        if self._serving is not None:
            os.close(self._serving)

    def forked(self) -> None:
        """Go on in a child.

        It is a user as its parent is: they have one lock on ``users``, which ends when both have closed
        it. As a writer it has to be told from its parent.
        """
        if self._writer is not None:
            os.close(self._writer[1])
            self._writer = None
        if self._serving is not None:  # a lock that the parent takes would be ours, too
            os.close(self._serving)
            self._serving = None
            with contextlib.suppress(OSError):  # without it, ZeroMQ will tell
                self._serving = _open(self.folder, "serving")

    def _launch(self) -> None:
        curve = self._credentials.for_server()
        order = {
            "folder": self.folder,
            "node": node_id(),
            "address": listening_address(self._spec.address),
            "port": self._spec.port,
            "max_bytes": self._spec.max_bytes,
            "key_id": curve.key_id,
            "server_secret": curve.server_secret.decode(),
            "client_public": curve.client_public.decode(),
        }
        with open(os.path.join(self.folder, "log"), "wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env={**_MALLOC, **os.environ},
                start_new_session=True,
            )
        try:
            # Through a pipe: other users can see a process's arguments.
            said, _ = process.communicate(json.dumps(order).encode(), timeout=self._spec.timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise BrokenError(
                self.folder, f"the server did not start within {self._spec.timeout:g} s"
            ) from None
        if said.strip() != b"ready":
            why = said.decode(errors="replace").strip() or self._last_words()
            raise BrokenError(f"ZeroMQ server in {self.folder}", f"does not start: {why}")

    def _last_words(self) -> str:
        with open(os.path.join(self.folder, "log"), errors="replace") as log:
            return log.read()[-500:].strip().rpartition("\n")[2]


def running() -> dict[str, Card]:
    """Return this user's servers on this node, by name; starts and makes nothing."""
    folder = os.path.join(runtime_folder(), node_id())
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    found = {name: _card(os.path.join(folder, name)) for name in names}
    return {name: card for name, card in found.items() if card is not None}


def _card(folder: str) -> Card | None:
    try:
        with open(os.path.join(folder, "card"), "rb") as file:
            card = msgspec.json.decode(file.read(), type=Card)
    except (OSError, msgspec.DecodeError):
        return None
    serving = _open(folder, "serving")
    try:
        return None if try_lock(serving, shared=True) else card
    finally:
        os.close(serving)


def _open(folder: str, name: str) -> int:
    return os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
