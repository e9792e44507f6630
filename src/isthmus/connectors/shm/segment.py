"""Small objects, packed one after the other into files that only their process appends to.

A file of its own costs a small object 10 µs and a page; here it costs one `pwritev`. The owner holds an
exclusive lock on its segment, so that anybody can tell when it has died. Objects are never moved or
overwritten: they are marked when evicted, and a segment goes when the last object of a sealed one does.

Layout, in native 8-byte words: end of the last complete object, number added, number evicted, sealed,
retired, 3 spare; then each object as size, state, time of creation (a double) and its bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from isthmus.connectors.naming import fresh_name
from isthmus.connectors.unfinished import full, remove, try_lock, write_pieces
from isthmus.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from isthmus.connectors.leases.grant import Grant
    from isthmus.connectors.shm.area import Area
    from isthmus.connectors.shm.ledger import Ledger

__all__ = ["PACKED_BYTES", "SUFFIX", "Found", "Packer", "Segment", "sweep_segment"]

PACKED_BYTES = 32 << 10
"""The largest object that is packed: above, a copy on each `get` costs more than a mapping."""

SUFFIX = ".seg"

_SEGMENT_BYTES = 4 << 20
_END, _ADDED, _EVICTED, _SEALED, _RETIRED = range(5)
_TOP = 64
_RECORD = struct.Struct("=QQd")
_LIVE, _DEAD = 1, 2


class Found(NamedTuple):
    """Where an object lies in its segment."""

    offset: int
    size: int
    created: float


class Segment:
    """A mapped segment, anybody's.

    Raises:
        FileNotFoundError: it is gone, and all its objects were evicted.
    """

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        opened = os.open(path, os.O_RDWR | os.O_CLOEXEC) if fd is None else fd
        try:
            self._map = mmap.mmap(opened, 0)
        except ValueError:
            raise FileNotFoundError(path) from None  # its owner was killed before it had a size
        finally:
            if fd is None:
                os.close(opened)
        if fd is None and len(self._map) <= _TOP:
            # About to get its size, and more than a mapping of today would show; or it has no object.
            raise FileNotFoundError(path)
        self.words = memoryview(self._map)[:_TOP].cast("Q")

    @property
    def retired(self) -> bool:
        """Whether its file was deleted."""
        return bool(self.words[_RETIRED])

    def find(self, offset: int, size: int) -> Found | None:
        """Return the live object whose bytes begin at `offset`; a made-up offset finds nothing."""
        if offset < _TOP + _RECORD.size or size < 0 or offset + size > self.words[_END]:
            return None
        actual, state, created = _RECORD.unpack_from(self._map, offset - _RECORD.size)
        return Found(offset, size, created) if (actual, state) == (size, _LIVE) else None

    def read(self, offset: int, size: int) -> bytearray:
        """Return a copy of a range, writable as a mapping of a large object is."""
        return bytearray(memoryview(self._map)[offset : offset + size])

    def __iter__(self) -> Iterator[Found]:
        at = _TOP
        while at < self.words[_END]:
            size, state, created = _RECORD.unpack_from(self._map, at)
            at += _RECORD.size
            if state == _LIVE:
                yield Found(at, size, created)
            at += _padded(size)

    def evict(self, offset: int, size: int, ledger: Ledger) -> bool:
        """Mark an object as gone; False if it was already."""
        with ledger.locked():
            if self.find(offset, size) is None:
                return False
            state = memoryview(self._map)[offset - 16 : offset - 8].cast("Q")
            state[0] = _DEAD
            self.words[_EVICTED] += 1
            self._retire_if_done(ledger)
        return True

    def seal(self, ledger: Ledger, fd: int, *, heir: bool = False) -> int:
        """End appending and give back the unused rest; return the bytes freed.

        An heir, who has the dead owner's lock, counts anew: somebody may have died while counting.
        """
        with ledger.locked():
            if self.retired:
                return 0
            size, end = os.fstat(fd).st_size, self.words[_END]
            if not self.words[_SEALED]:
                self.words[_SEALED] = 1
                os.ftruncate(fd, end)
                ledger.free(size - end)
            if heir:
                self.words[_ADDED] = self.words[_EVICTED] + sum(1 for _ in self)
            return size if self._retire_if_done(ledger) else size - end

    def _retire_if_done(self, ledger: Ledger) -> bool:
        if not self.words[_SEALED] or self.words[_EVICTED] < self.words[_ADDED]:
            return False
        self.words[_RETIRED] = 1
        if remove(self.path):
            ledger.free(self.words[_END])
        return True


class Packer:
    """Appends this process's small objects to its current segment."""

    def __init__(self, area: Area, ledger: Ledger) -> None:
        self._area = area
        self._ledger = ledger
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._fd = -1
        self._name = ""
        self._at = self._size = 0
        self._closed = False

    def append(
        self,
        pieces: Sequence[bytes | memoryview],
        size: int,
        grant: Callable[[str, int], Grant] | None = None,
    ) -> tuple[str, int] | None:
        """Store an object; return its segment's name and its offset, or None if there is no room.

        Args:
            pieces: the object's bytes.
            size: of all of them.
            grant: gives a lease to what will lie in a segment at an offset.
        """
        need = _RECORD.size + _padded(size)
        with self._lock:
            if (self._segment is None or self._at + need > self._size) and not self._renew():
                return None
            assert self._segment is not None
            at = self._at
            try:
                write_pieces(self._fd, [_RECORD.pack(size, _LIVE, time.time()), *pieces], at)
            except OSError as error:
                if full(error):
                    return None
                raise
            place = self._name, at + _RECORD.size
            with contextlib.nullcontext() if grant is None else grant(*place) as granted:
                self._at = at + need
                # The order matters: nobody looks beyond the end, so a writer killed above left nothing.
                self._segment.words[_END] = self._at
                self._segment.words[_ADDED] += 1
                if granted is not None:
                    granted.won = True
            return place

    def seal(self) -> None:
        """End the current segment, if there is one."""
        with self._lock:
            self._seal()

    def close(self) -> None:
        """End the current segment, and let a thread under way begin no other."""
        with self._lock:
            self._closed = True
            self._seal()

    def drop(self) -> None:
        """Forget the current segment without touching it: it is the parent's of this forked process."""
        if self._segment is not None:
            os.close(self._fd)

    def _seal(self) -> None:
        if self._segment is not None:
            self._segment.seal(self._ledger, self._fd)
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # a forked child may hold the descriptor too
            os.close(self._fd)
            self._segment = None

    def _renew(self) -> bool:
        self._seal()
        if self._closed:
            raise ClosedError(f"shared memory {self._area.folder}")
        size = max(min(_SEGMENT_BYTES, self._ledger.limit // 16 & -4096), 64 << 10)
        if not self._ledger.book(size):
            return False
        fd = -1
        try:
            while fd < 0:
                name = fresh_name(self._area.host)
                path = self._area.path(name + SUFFIX)
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(fd, fcntl.LOCK_EX)
                if not os.fstat(
                    fd
                ).st_nlink:  # a sweeper took it for a dead owner's before we had the lock
                    os.close(fd)
                    fd = -1
            # Header first: an heir cuts the file at the end that it reads there.
            os.pwrite(fd, struct.pack("=8Q", _TOP, *[0] * 7), 0)
            os.ftruncate(fd, size)
            self._segment = Segment(path, fd)
        except OSError as error:
            self._ledger.free(size)
            if fd >= 0:
                remove(path)
                os.close(fd)
            if full(error):
                return False
            raise
        self._fd, self._name, self._at, self._size = fd, name, _TOP, size
        return True


def sweep_segment(path: str, ledger: Ledger) -> int:
    """Seal the segment of a dead process; return the bytes freed, 0 if its owner lives."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            if not try_lock(fd):
                return 0
            if os.fstat(fd).st_size < _TOP:
                remove(path)
                return 0
            return Segment(path, fd).seal(ledger, fd, heir=True)
        finally:
            os.close(fd)
    return 0


def _padded(size: int) -> int:
    return size + 7 & -8
