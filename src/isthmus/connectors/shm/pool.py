"""Evicted files of this process, kept for its next large object.

The kernel zeroes every fresh page, which costs more than the copy. A file that was evicted while nobody
had it pinned keeps its pages, and as long as this process holds a mapping of it, its page table too: a
copy into that runs at the speed of memory. What the pool keeps counts against the budget, is bounded,
and is given up as soon as anybody needs the room.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from typing import TYPE_CHECKING

from isthmus.connectors.unfinished import Unfinished

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.connectors.shm.ledger import Ledger

__all__ = ["Pool", "Recycled"]

_SMALLEST = 64 << 10
_MOST_BYTES = 1 << 30
_MOST_FILES = 8  # two descriptors each
_CHUNK = 1 << 20  # copied between two chances for other threads to get the interpreter's lock
_POPULATE = getattr(mmap, "MAP_POPULATE", 0x8000 if os.uname().sysname == "Linux" else 0)


class Recycled(Unfinished):
    """An evicted file under an unfinished file's name, locked, with its pages still there."""

    def __init__(self, path: str, fd: int, size: int, mapping: mmap.mmap | None) -> None:
        self.path = path
        self.folder = os.path.dirname(path)
        self.fd = fd
        self.size = size
        self.mapping = mapping

    def write(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Overwrite the file through its mapping, and cut it to the pieces' length."""
        try:
            self._copy(pieces)
        except BaseException:
            self.discard()
            raise

    def _write_anew(self) -> None:
        super()._write_anew()
        self.mapping = None  # of the file that is gone

    def _copy(self, pieces: Sequence[bytes | memoryview]) -> None:
        if self.mapping is None:
            self.mapping = mmap.mmap(self.fd, self.size, flags=mmap.MAP_SHARED | _POPULATE)
        at = 0
        with memoryview(self.mapping) as target:
            for piece in pieces:
                for start in range(0, len(piece), _CHUNK):
                    chunk = (
                        piece if len(piece) <= _CHUNK else memoryview(piece)[start : start + _CHUNK]
                    )
                    target[at : at + len(chunk)] = chunk
                    at += len(chunk)
        if at < self.size:
            os.ftruncate(self.fd, at)
            self.size = at


class Pool:
    """Files to be recycled, and mappings of published files that may come back."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._most = min(ledger.limit // 8, _MOST_BYTES)
        self._lock = threading.RLock()  # a finalizer, run anywhere, may evict
        self._free: list[Recycled] = []
        self._published: dict[str, tuple[mmap.mmap, int]] = {}
        self._writes = False

    def take(self, size: int) -> Recycled | None:
        """Return the smallest file of at least `size` and at most a quarter more, if there is one."""
        self._writes = True
        with self._lock:
            fits = [f for f in self._free if size <= f.size <= size + size // 4]
            if not fits:
                return None
            best = min(fits, key=lambda f: f.size)
            self._free.remove(best)
            return best

    def wants(self, size: int) -> bool:
        """Return whether a file of this size is worth keeping; not for who only reads."""
        return self._writes and _SMALLEST <= size <= self._most

    def give(self, file: Recycled) -> None:
        """Keep a file, dropping the oldest where they get too many."""
        with self._lock:
            self._free.append(file)
            drop = 0
            while len(self._free) - drop > _MOST_FILES or (
                sum(f.size for f in self._free[drop:]) > self._most
            ):
                drop += 1
            dropped, self._free = self._free[:drop], self._free[drop:]
        self._discard(dropped)

    def empty(self) -> bool:
        """Give up everything; return whether that freed any file."""
        with self._lock:
            dropped, self._free = self._free, []
            self._published.clear()
        self._discard(dropped)
        return bool(dropped)

    def remember(self, path: str, file: Recycled) -> None:
        """Keep the mapping of a file that was just published, in case this process evicts it too."""
        if file.mapping is None:
            return
        with self._lock:
            self._published[path] = (file.mapping, file.size)
            # A file that somebody else evicted meanwhile must not stay in memory for our mapping's sake.
            for old in list(self._published)[:2]:
                if not os.path.lexists(old):
                    del self._published[old]
            while len(self._published) > _MOST_FILES or (
                sum(size for _, size in self._published.values()) > self._most
            ):
                del self._published[next(iter(self._published))]

    def recall(self, path: str) -> mmap.mmap | None:
        """Return the mapping kept for a published file, and forget it."""
        with self._lock:
            mapping, _ = self._published.pop(path, (None, 0))
            return mapping

    def close(self) -> None:
        """Give up everything, and keep nothing that a thread under way may still give."""
        self._most = 0
        self.empty()

    def abandon(self) -> None:
        """Close what a forked child inherited; the files and their locks are its parent's."""
        for file in self._free:
            with contextlib.suppress(OSError):
                os.close(file.fd)

    def _discard(self, files: list[Recycled]) -> None:
        for file in files:
            file.discard()
            self._ledger.free(file.size)
