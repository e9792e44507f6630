"""A file that is being written: invisible until complete, and recognisable once its writer is dead.

It lies beside its final place under a name that no key has, and its writer holds an exclusive `flock`
on it. Whoever can take that lock knows that the writer is gone and removes the file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING

from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Unfinished", "full", "remove", "try_lock", "write_pieces"]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})
_COPIED_BYTES = 1 << 20
_PIECES_PER_CALL = min(os.sysconf("SC_IOV_MAX"), 1024)


def full(error: OSError) -> bool:
    """Return whether the error says that there is no room: disk, quota or file size limit."""
    return error.errno in _FULL


def remove(path: str) -> bool:
    """Unlink a file; False if there was none."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def try_lock(fd: int, *, shared: bool = False) -> bool | None:
    """Take a lock without waiting: False if somebody holds it, None where files cannot be locked."""
    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def write_pieces(fd: int, pieces: Sequence[bytes | memoryview], offset: int = 0) -> int:
    """Write all pieces one after the other from `offset`, without joining them; return where they end."""
    todo = list(pieces)
    while todo:
        # Linux writes at most 2 GiB a call; other systems and full disks may stop short as well.
        done = os.pwritev(fd, todo[:_PIECES_PER_CALL], offset)
        if done == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        offset += done
        while todo and done >= len(todo[0]):
            done -= len(todo.pop(0))
        if done:
            todo[0] = memoryview(todo[0])[done:]
    return offset


class Unfinished:
    """An exclusive, locked, empty file in `folder`, to be filled and then published or discarded."""

    def __init__(self, folder: str, name: str, mode: int = 0o666) -> None:
        self.folder = folder
        while True:
            self.path = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.part")
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.fd = os.open(self.path, flags, mode)
            with contextlib.suppress(OSError):  # where files cannot be locked, `sweep` goes by age
                fcntl.flock(self.fd, fcntl.LOCK_EX)
            if os.fstat(self.fd).st_nlink:
                return
            os.close(self.fd)  # a sweeper took it for a dead writer's before we had the lock

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Fill the file; where that fails, the file is gone."""
        try:
            write_pieces(self.fd, pieces)
            # A network file system writes back, and says that its disk is full, when a descriptor of
            # the file is closed. The lock must stay until the file is published, so close a copy.
            os.close(os.dup(self.fd))
        except BaseException:
            self.discard()
            raise

    def publish(self, path: str) -> None:
        """Give the file its final name, for all to see."""
        self.open_to_readers()
        try:
            self._give(os.rename, path)
        except BaseException:
            self.discard()
            raise
        self.release()

    def publish_if_absent(self, path: str) -> bool:
        """Give the file its final name unless that exists; False, and no file, if it does."""
        self.open_to_readers()
        try:
            self._give(os.link, path)
            won = True
        except FileExistsError:
            # A repeated request over NFS may fail because its first try succeeded: the link count tells.
            won = os.fstat(self.fd).st_nlink == 2
        finally:
            self.discard()
        return won

    def open_to_readers(self) -> None:
        """Let readers pin the file, with shared locks, from the moment that it has its name."""
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_SH)

    def keep(self) -> None:
        """See that the file is there, and open to readers, before something is built on its identity.

        Raises:
            BrokenError: it was deleted, and there is no room to write it anew.
        """
        self.open_to_readers()
        while not os.fstat(self.fd).st_nlink:
            self._write_anew()

    def _give(self, name: Callable[[str, str], None], path: str) -> None:
        while True:
            try:
                return name(self.path, path)
            except FileNotFoundError:
                self._write_anew()

    def _write_anew(self) -> None:
        """Undo what a sweeper did that took this file for a dead writer's.

        From the exclusive lock to the shared one there is an instant without any.
        """
        name = os.path.basename(self.path)[1:].partition(".")[0]
        try:
            found = os.fstat(self.fd)
            fresh = Unfinished(self.folder, name, stat.S_IMODE(found.st_mode))
            try:
                at = 0
                while data := os.pread(self.fd, _COPIED_BYTES, at):
                    at = write_pieces(fresh.fd, [data], at)
                os.dup2(fresh.fd, self.fd, inheritable=False)
            except BaseException:
                remove(fresh.path)
                raise
            finally:
                os.close(fresh.fd)
        except OSError as error:
            reason = f"an unfinished file was deleted by somebody else, and {error.strerror}"
            raise BrokenError(self.folder, reason) from None
        self.path = fresh.path
        self.open_to_readers()

    def discard(self) -> None:
        """Remove the file under its unfinished name."""
        remove(self.path)
        self.release()

    def release(self) -> None:
        """Unlock and close, whatever a forked child still holds open."""
        with contextlib.suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_UN)
        os.close(self.fd)
