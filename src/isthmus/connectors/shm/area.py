"""The folder in memory that the connectors of one name share, and who has it open.

Every open connector holds a shared lock on the file ``.open``. Whoever can take it exclusively is alone:
the first to come cleans up after those that were killed, here and in areas that nobody comes to any more,
the last to leave takes empty folders along.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import tempfile
from typing import TYPE_CHECKING

from isthmus.connectors.leases.folder import LEASES, stale
from isthmus.connectors.naming import host_id, is_name
from isthmus.connectors.unfinished import try_lock
from isthmus.errors import BrokenError, SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Area", "private_folder", "root"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_OWN = (".open", ".ledger")
_LATELY_SECONDS = 60.0
_HINT = "let ISTHMUS_SHM_DIR name a folder in memory that exists and that you may write to"


def root() -> str:
    """Return the file system in memory; where there is none (macOS), the folder for temporary files.

    The environment variable ``ISTHMUS_SHM_DIR`` names another: a larger tmpfs in a container whose
    ``/dev/shm`` is small, or a place of their own for tests. Processes share objects only if they agree.
    """
    chosen = os.environ.get("ISTHMUS_SHM_DIR")
    if chosen:
        return os.path.abspath(chosen)
    shm = "/dev/shm"
    return shm if os.path.isdir(shm) and os.access(shm, os.W_OK) else tempfile.gettempdir()


def private_folder(path: str) -> None:
    """Make a folder that only this user can enter.

    Raises:
        BrokenError: it exists and is another user's, or is no folder. In a place where everybody may
            write, somebody could have put it there to read or to redirect what we store.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise BrokenError(
            path, "exists, but is not a folder of this user; delete it or have it deleted"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


class Area:
    """An open folder ``/dev/shm/isthmus-UID/NAME``.

    Raises:
        SpecError: the name could not be a folder's.
        BrokenError: the folder cannot be made, or is another user's.
    """

    def __init__(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise SpecError(
                "shared memory", f"name {name!r} must be 1 to 64 letters, digits, '_', '.' or '-'"
            )
        self._parent = os.path.join(root(), f"isthmus-{os.getuid()}")
        try:
            # Containers and users of one host do not share this memory.
            self.host = host_id(f"{os.stat(root()).st_dev} {os.getuid()}")
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._parent, 0o700)
        except OSError as error:
            # Here, an absent folder means that there can be none, not that somebody just took it along.
            raise BrokenError(
                f"shared memory {self._parent}", f"{error.strerror}; {_HINT}"
            ) from error
        self.folder = os.path.join(self._parent, name)
        self._presence = os.path.join(self.folder, ".open")
        while not self._enter():
            pass  # the last of the others was just leaving, and took the folder along

    def _enter(self) -> bool:
        try:
            private_folder(self._parent)
            private_folder(self.folder)
            self._fd = os.open(self._presence, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        except OSError as error:
            if isinstance(error, BrokenError):
                raise
            raise BrokenError(f"shared memory {self.folder}", error.strerror) from error
        self.alone = bool(try_lock(self._fd))
        fcntl.flock(self._fd, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._presence), os.fstat(self._fd)):
                return True
        os.close(self._fd)
        return False

    def path(self, name: str) -> str:
        """Return the path of a file in the area."""
        return f"{self.folder}/{name}"

    def leave(self) -> bool:
        """Return whether no other connector has the area open; if so, nobody can enter until `close`."""
        return bool(try_lock(self._fd))

    def remove_if_empty(self) -> None:
        """Take the folder along if it holds no object; only for who is alone."""
        if all(name in (*_OWN, "spill") for name in os.listdir(self.folder)):
            spill = os.path.join(self.folder, "spill")
            with contextlib.suppress(OSError):
                os.rmdir(os.readlink(spill))
            for name in ("spill", *reversed(_OWN)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, name))
            for folder in (self.folder, self._parent):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)

    def deserted(self, *, leased: bool) -> Iterator[str]:
        """Yield the names of this user's other areas that nobody has open and where something may go.

        Args:
            leased: those with leases that nobody looked at lately; else those that hold no large object
                and no leases.
        """
        for name in os.listdir(self._parent):
            folder = os.path.join(self._parent, name)
            if folder == self.folder or not _NAME.fullmatch(name):
                continue
            with contextlib.suppress(OSError):  # gone meanwhile, or not an area
                if leased:
                    if not stale(folder, _LATELY_SECONDS):
                        continue
                elif any(n == LEASES or is_name(n) for n in os.listdir(folder)):
                    continue
                fd = os.open(
                    os.path.join(folder, ".open"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
                try:
                    alone = try_lock(fd)
                finally:
                    os.close(fd)
                if alone:
                    yield name

    def close(self) -> None:
        """Give up the descriptor; a forked child does only this, as the lock is its parent's too."""
        os.close(self._fd)
