"""CURVE keys of servers and clients, made from one secret that all processes of a user can find."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from isthmus.connectors.keyring import KEY_ID_BYTES, Keyring, SecretKey
from isthmus.connectors.zmq.access import zmq
from isthmus.errors import MissingSecretError, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Credentials", "Curve", "default_reference"]


class Curve(NamedTuple):
    """Keys of both ends, in Z85."""

    key_id: str
    """Of the secret they are made from, in hex."""
    server_public: bytes
    server_secret: bytes
    client_public: bytes
    client_secret: bytes

    def __repr__(self) -> str:
        return f"<CURVE keys of {self.key_id}>"


class Credentials:
    """Finds secrets where a reference says, when they are needed.

    Args:
        reference: ``env:NAME``, ``file:PATH``; empty for the user's own file, see `default_reference`.

    Raises:
        SpecError: the reference is of no such form.
    """

    def __init__(self, reference: str) -> None:
        self._own = not reference
        self._keyring = Keyring([reference or default_reference()])

    def for_server(self) -> Curve:
        """Return the keys of a new server; makes the user's own file if there is none.

        Raises:
            MissingSecretError: a reference was given, and leads nowhere.
        """
        if self._own:
            _make(self._keyring.references[0].removeprefix("file:"))
        try:
            return _curve(self._keyring.newest())
        except MissingSecretError as error:
            raise MissingSecretError("the ZeroMQ server of this node", *error.args[1:]) from None

    def find(self, key_id: str, name: Callable[[], str]) -> Curve:
        """Return the keys for a server by the id of its secret.

        Raises:
            MissingSecretError: the secret is not here.
        """
        try:
            return _curve(self._keyring.find(bytes.fromhex(key_id), name))
        except MissingSecretError as error:
            if not self._own:
                raise
            what, which, looked = error.args
            hint = "copy that file from the node of the server, or name a secret with key="
            raise MissingSecretError(what, which, (*looked, hint)) from None


def default_reference() -> str:
    """Return where a user's own secret lies: ``zmq.key`` in the folder of isthmus' settings.

    That is ``ISTHMUS_CONFIG_DIR``, else ``isthmus`` in ``XDG_CONFIG_HOME`` or ``~/.config``.
    """
    folder = os.environ.get("ISTHMUS_CONFIG_DIR") or os.path.join(
        os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "isthmus"
    )
    return f"file:{os.path.abspath(folder)}/zmq.key"


def _make(path: str) -> None:
    """Make the file unless it exists; of several processes, on several nodes, one does."""
    if os.path.exists(path):
        return
    unfinished = f"{path}.{os.urandom(4).hex()}"
    try:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(fd, "w") as file:
                file.write(f"{os.urandom(32).hex()}\n")
            with contextlib.suppress(FileExistsError):
                os.link(unfinished, path)
        finally:
            os.unlink(unfinished)
    except OSError as error:
        raise SpecError(
            "ZmqConnector",
            f"cannot make the key file {path} ({error.strerror}); name one with key=",
        ) from error


def _curve(key: SecretKey) -> Curve:
    module = zmq()
    from zmq.utils import z85

    def pair(end: bytes) -> tuple[bytes, bytes]:
        secret: bytes = z85.encode(
            hashlib.blake2b(key.secret, digest_size=32, person=b"isthmus " + end).digest()
        )
        return module.curve_public(secret), secret

    assert len(key.id) == KEY_ID_BYTES
    return Curve(key.id.hex(), *pair(b"server"), *pair(b"client"))
