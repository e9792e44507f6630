"""How much of the budget is used, counted by all processes of an area together.

Bytes are booked before they are used and given back after they are free, so a process killed in between
makes the count too high; `recount` puts that right when the area seems full.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import threading
from typing import TYPE_CHECKING

from isthmus.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LEDGER_BYTES", "Ledger"]

_USED, _LIMIT, _SQUEEZED, _LEASED = 0, 1, 2, 3
_WORDS = 8
LEDGER_BYTES = _WORDS * 8

# Of this process: the thread whose turn it is, and the ledgers that it has locked.
_turn = threading.RLock()
_locked: set[tuple[int, int]] = set()


class Ledger:
    """The mapped file ``.ledger`` of an area.

    Args:
        folder: the area's.
        limit: budget of this process in bytes; None for what the area's first process chose, half of
            what was free then: containers often have 64 MB, and others need some of it too.
        fresh: whether to start a new count; only for who is alone.
    """

    def __init__(self, folder: str, limit: int | None, fresh: bool) -> None:
        self._folder = folder
        self._fd = os.open(
            os.path.join(folder, ".ledger"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        found = os.fstat(self._fd)
        self._file = found.st_dev, found.st_ino
        try:
            # In one go: who comes second must not read a limit that the first has yet to write.
            with self.locked():
                if os.fstat(self._fd).st_size < LEDGER_BYTES:
                    fresh = True
                    # Written, as a mapping would die when memory is full.
                    os.pwrite(self._fd, bytes(LEDGER_BYTES), 0)
                self._words = memoryview(mmap.mmap(self._fd, LEDGER_BYTES)).cast("q")
                if fresh:
                    self._words[_USED] = self._count()
                    self._words[_LIMIT] = (self._words[_USED] + _free(folder)) // 2
        except BaseException:
            os.close(self._fd)
            raise
        self.limit = self._words[_LIMIT] if limit is None else limit
        self._squeezed = self._words[_SQUEEZED]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread away from the area's bookkeeping.

        A thread may enter again, through another ledger of the same area too: the garbage collector
        closes forgotten connectors wherever it happens to run, and a second lock would wait for the first.
        """
        with _turn:
            first = self._file not in _locked
            try:
                if first:
                    if self._fd < 0:
                        raise ClosedError(f"shared memory {self._folder}")
                    fcntl.flock(self._fd, fcntl.LOCK_EX)
                    _locked.add(self._file)
                yield
            finally:
                if first and self._fd >= 0:
                    _locked.discard(self._file)
                    fcntl.flock(self._fd, fcntl.LOCK_UN)

    def book(self, size: int) -> bool:
        """Take `size` bytes of the budget; False if there are not so many."""
        with self.locked():
            if self._words[_USED] + size > self.limit:
                return False
            self._words[_USED] += size
            return True

    def free(self, size: int) -> None:
        """Give `size` bytes back."""
        with self.locked():
            self._words[_USED] -= size

    def recount(self) -> None:
        """Count what is really there; what others are writing meanwhile is missed until the next time."""
        with self.locked():
            self._words[_USED] = self._count()

    def squeeze(self) -> None:
        """Ask all processes to give up what they keep for reuse."""
        self._words[_SQUEEZED] += 1
        self._squeezed = self._words[_SQUEEZED]

    def asked_to_squeeze(self) -> bool:
        """Return whether another process has asked since the last call."""
        asked = self._words[_SQUEEZED] != self._squeezed
        self._squeezed = self._words[_SQUEEZED]
        return asked

    @property
    def leased(self) -> bool:
        """Whether any object of the area was ever leased: else nobody need look for leases."""
        return bool(self._words[_LEASED])

    def note_lease(self) -> None:
        """Note that an object is about to be."""
        self._words[_LEASED] = 1

    @property
    def used(self) -> int:
        """Bytes booked by all processes."""
        return self._words[_USED]

    def close(self) -> None:
        """Give up the descriptor, between two turns: its number may soon be another file's.

        It holds no lock then, so a forked child may do this too.
        """
        with _turn:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _count(self) -> int:
        # By inode: a file about to be published has two names. A spilled object is a link: no memory.
        sizes: dict[int, int] = {}
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode) and entry.name != ".ledger":
                        sizes[found.st_ino] = found.st_size
        return sum(sizes.values())


def _free(folder: str) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize


# No fork in the middle of bookkeeping: neither a half of it nor a dead thread's turn reaches the child.
os.register_at_fork(
    before=_turn.acquire, after_in_parent=_turn.release, after_in_child=_turn.release
)
