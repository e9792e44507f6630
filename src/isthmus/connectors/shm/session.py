"""What an open connector has of an area, and what it does with files of their own there."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from isthmus.connectors.leases import LeaseFolder
from isthmus.connectors.naming import is_name, is_unfinished
from isthmus.connectors.shm.area import Area
from isthmus.connectors.shm.ledger import LEDGER_BYTES, Ledger
from isthmus.connectors.shm.pool import Pool, Recycled
from isthmus.connectors.shm.segment import SUFFIX, Packer, Segment, sweep_segment
from isthmus.connectors.shm.spill import Spill
from isthmus.connectors.unfinished import Unfinished, full, remove, try_lock
from isthmus.errors import BrokenError, FullError, IsthmusError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.connectors.leases import Terms
    from isthmus.connectors.shm.connector import SharedMemorySpec

__all__ = ["Session", "lease_name"]

_MOST_SEGMENTS = 64  # mapped at a time: a descriptor each
_SWEEP_SECONDS = 1.0
_HINT = "free some of it, or let ISTHMUS_SHM_DIR name another folder in memory"


class Session:
    """Everything of one connector that a forked child must not share with its parent."""

    def __init__(self, spec: SharedMemorySpec) -> None:
        self.pid = os.getpid()
        self.area = Area(spec.name)
        try:
            self.spill = Spill(self.area, spec.name, spec.spill_dir)
            self.ledger = Ledger(self.area.folder, spec.max_bytes, self.area.alone)
        except BaseException as error:
            if self.area.leave():
                self.area.remove_if_empty()
            self.area.close()
            if isinstance(error, IsthmusError) or not isinstance(error, OSError):
                raise
            where = f"shared memory {self.area.folder}"
            if full(error):  # not one page for the bookkeeping of a space
                raise FullError(where, LEDGER_BYTES, _HINT) from None
            raise BrokenError(where, error.strerror) from error
        self.packer = Packer(self.area, self.ledger)
        self.pool = Pool(self.ledger)
        self.leases = LeaseFolder(self.area.folder, self)
        self.segments: dict[str, Segment] = {}
        self._swept = float("-inf")
        if self.area.alone:
            self._sweep_debris()

    def segment(self, name: str) -> Segment | None:
        """Return a segment, anybody's, mapped; None if it is gone."""
        found = self.segments.get(name)
        if found is None:
            try:
                found = Segment(self.area.path(name + SUFFIX))
            except FileNotFoundError:
                return None
            # Here, so that memory is not kept for the sake of mappings that nobody looks at.
            for old, mapped in tuple(self.segments.items()):
                if mapped.retired or len(self.segments) >= _MOST_SEGMENTS:
                    self.segments.pop(old, None)
            self.segments[name] = found
        return found

    def sweep(self) -> int:
        """Delete what is overdue and what killed processes left unfinished; return the bytes freed."""
        return self.leases.sweep().freed + self._sweep_debris()

    def _sweep_debris(self) -> int:
        freed = self.spill.sweep()
        for name in os.listdir(self.area.folder):
            path = self.area.path(name)
            if name.endswith(SUFFIX):
                freed += sweep_segment(path, self.ledger)
            elif is_unfinished(name):
                with contextlib.suppress(FileNotFoundError):
                    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                    try:
                        if try_lock(fd) and remove(path) and not os.fstat(fd).st_nlink:
                            freed += os.fstat(fd).st_size
                    finally:
                        os.close(fd)
        self.ledger.recount()
        return freed

    def close(self) -> None:
        """Leave; the last one out takes empty folders along."""
        if self.pid != os.getpid():
            return  # a forked child's exit handler; `abandon` has closed everything
        self.pool.close()
        self.packer.close()
        self.leases.close()
        if self.area.leave():
            self.sweep()
            self.leases.remove_if_empty()
            self.area.remove_if_empty()
        self.ledger.close()
        self.area.close()

    def abandon(self) -> None:
        """Close what a forked child inherited, and let go of none of its parent's locks."""
        self.pool.abandon()
        self.packer.drop()
        self.ledger.close()
        self.area.close()

    def pin(self, name: str) -> tuple[int, int] | None:
        """Open an object's file such that it cannot be recycled while the descriptor's lock lasts."""
        path = self.area.path(name)
        try:
            while True:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if try_lock(fd, shared=True) is not False:
                        # It could have become another object's before we had the lock.
                        found = os.fstat(fd)
                        if os.path.samestat(found, os.stat(path)):
                            return fd, found.st_size
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenError(f"shared memory {path}", error.strerror) from error

    def store(
        self,
        name: str,
        flat: Sequence[bytes | memoryview],
        size: int,
        absent: bool,
        given: Terms | None = None,
    ) -> bool:
        """Store an object in a file of its own, in memory or on disk.

        Args:
            name: of the file.
            flat: the object's pieces.
            size: of all of them, in bytes.
            absent: only if there is none of this name, else return False.
            given: terms of its lease.
        """
        path = self.area.path(name)
        if absent and os.path.lexists(path):
            return False
        file = self._write(name, flat, size)
        if file is None and self.make_room():
            file = self._write(name, flat, size)
        if file is None:
            return self._spill_over(name, flat, size, given)
        if given is None and not absent:
            file.publish(path)
        else:
            try:
                won = self.leases.publish(name, given, file, lambda: file.publish_if_absent(path))
            except BaseException:
                self.ledger.free(size)
                raise
            if not won:
                self.ledger.free(size)
                return False
        if isinstance(file, Recycled):
            self.pool.remember(path, file)
        return True

    def _write(self, name: str, flat: Sequence[bytes | memoryview], size: int) -> Unfinished | None:
        """Return a filled file, or None if there is no room."""
        recycled = self.pool.take(size)
        if recycled is not None:
            spare = recycled.size - size
            recycled.write(flat)
            if spare:
                self.ledger.free(spare)
            return recycled
        if not self.ledger.book(size):
            return None
        try:
            file = Unfinished(self.area.folder, name, 0o600)
            file.write(flat)
        except OSError as error:
            self.ledger.free(size)
            if full(error):
                return None
            raise
        return file

    def make_room(self) -> bool:
        """Give up what is kept for reuse, here and elsewhere; return whether another try may succeed."""
        used = self.ledger.used
        emptied = self.pool.empty()
        self.ledger.squeeze()
        if time.monotonic() - self._swept >= _SWEEP_SECONDS:
            self._swept = time.monotonic()
            self.sweep()
        return emptied or self.ledger.used < used

    def _spill_over(
        self, name: str, flat: Sequence[bytes | memoryview], size: int, given: Terms | None
    ) -> bool:
        try:
            return self.spill.store(name, flat, self.leases, given)
        except OSError as error:
            if isinstance(error, BrokenError | FullError):
                raise
            raise FullError(
                f"shared memory {self.area.folder} (budget {self.ledger.limit} bytes) and in "
                f"{self.spill.place} ({error.strerror})",
                size,
                "evict objects, or choose another max_bytes or spill_dir",
            ) from None

    def evict(self, name: str, offset: int, size: int) -> None:
        """Delete an object, packed or in a file of its own, and its lease."""
        if offset < 0:
            self.evict_file(name)
        elif (segment := self.segment(name)) is not None:
            segment.evict(offset, size, self.ledger)
        if self.ledger.leased:
            self.leases.drop(lease_name(name, offset, size))

    def identity(self, name: str) -> int | None:
        """Return a number that no other object of this `lease_name` has; None if there is none."""
        base, offset, size = _parts(name)
        if offset >= 0:
            segment = self.segment(base)
            # Nothing is ever stored twice at one place of a segment.
            return None if segment is None or segment.find(offset, size) is None else 1
        try:
            return os.stat(self.area.path(base)).st_ino if is_name(base) else None
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> int:
        """Delete the object of a `lease_name`; return the bytes freed."""
        base, offset, size = _parts(name)
        if offset < 0:
            try:
                size = os.stat(self.area.path(base)).st_size
            except FileNotFoundError:
                return 0
            self.evict_file(base)
            return size
        segment = self.segment(base)
        return size if segment is not None and segment.evict(offset, size, self.ledger) else 0

    def evict_file(self, name: str) -> None:
        """Delete a file, in memory or on disk; keep its pages if nobody has it pinned."""
        path = self.area.path(name)
        if self.ledger.asked_to_squeeze():
            self.pool.empty()
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise BrokenError(f"shared memory {path}", error.strerror) from error
            self.spill.evict(name)
            return
        try:
            mapping = self.pool.recall(path)
            size = os.fstat(fd).st_size
            if not self.pool.wants(size):
                if remove(path):
                    self.ledger.free(size)
                return
            # Out of every reader's sight first: who comes now finds nothing, who came before has a lock.
            aside = self.area.path(f".{name}.{os.urandom(4).hex()}.part")
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                return
            # Looked at under the lock: between the two, a sweeper may have taken it for debris.
            if try_lock(fd) and _is(aside, fd):
                recycled, fd = Recycled(aside, fd, size, mapping), -1
                self.pool.give(recycled)
            elif remove(aside):
                self.ledger.free(size)
        finally:
            if fd >= 0:
                os.close(fd)


def _is(path: str, fd: int) -> bool:
    """Return whether the open file lies at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def lease_name(name: str, offset: int, size: int) -> str:
    """Return the name that the lease of an object has."""
    return name if offset < 0 else f"{name}.{offset:x}.{size:x}"


def _parts(name: str) -> tuple[str, int, int]:
    base, _, place = name.partition(".")
    offset, _, size = place.partition(".")
    try:
        return (base, int(offset, 16), int(size, 16)) if place and is_name(base) else (base, -1, -1)
    except ValueError:
        return "", -1, -1  # somebody else's file
