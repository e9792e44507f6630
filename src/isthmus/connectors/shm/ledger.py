"""How much of the budget is used, counted by all processes of an area together.

Bytes are booked before they are used and given back after they are free, so a process killed in between
makes the count too high, never too low; `recount` puts that right when the area seems full.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LEDGER_BYTES", "Ledger"]

_USED, _LIMIT, _SQUEEZED = 0, 1, 2
_WORDS = 8
LEDGER_BYTES = _WORDS * 8
_RECOUNT_SECONDS = 1.0


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
        self._threads = threading.RLock()
        self._depth = 0
        self._counted = float("-inf")
        try:
            with self.locked():
                if os.fstat(self._fd).st_size < LEDGER_BYTES:
                    fresh = True
                    # Written, as a mapping would die when full.
                    os.pwrite(self._fd, bytes(LEDGER_BYTES), 0)
            self._words = memoryview(mmap.mmap(self._fd, LEDGER_BYTES)).cast("q")
        except BaseException:
            os.close(self._fd)
            raise
        if fresh:
            with self.locked():
                self._words[_USED] = self._count()
                self._words[_LIMIT] = (self._words[_USED] + _free(folder)) // 2
        self.limit = self._words[_LIMIT] if limit is None else limit
        self._squeezed = self._words[_SQUEEZED]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread away from the area's bookkeeping."""
        with self._threads:
            if not self._depth:
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
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

    def recount(self, *, now: bool = False) -> None:
        """Count what is really there; at most once a second, unless `now`."""
        moment = time.monotonic()
        if not now:
            if moment - self._counted < _RECOUNT_SECONDS:
                return
            self._counted = moment
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
    def used(self) -> int:
        """Bytes booked by all processes."""
        return self._words[_USED]

    def close(self) -> None:
        """Give up descriptor and mapping; holds no lock, so a forked child may do it too."""
        os.close(self._fd)
        self._words.release()

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
