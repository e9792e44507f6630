"""The connector: which way an object goes, and what a reader has to check."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple

from isthmus.connectors.forking import renew_after_fork
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.mapping import map_private, read
from isthmus.connectors.naming import fresh_name, is_name, is_unfinished, made_here, owner
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.polling import poll
from isthmus.connectors.protocol import ObjectInfo
from isthmus.connectors.shm.area import Area
from isthmus.connectors.shm.ledger import Ledger
from isthmus.connectors.shm.pool import Pool, Recycled
from isthmus.connectors.shm.segment import PACKED_BYTES, SUFFIX, Packer, Segment, sweep_segment
from isthmus.connectors.shm.spill import Spill
from isthmus.connectors.unfinished import Unfinished, full, remove, try_lock
from isthmus.errors import BrokenError, ElsewhereError, FullError, KeyTypeError, SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.connectors.protocol import Buffer, Payload

__all__ = ["SharedMemoryConnector", "SharedMemoryKey", "SharedMemorySpec"]


class SharedMemorySpec(Spec):
    """Which shared memory a `SharedMemoryConnector` uses."""

    name: str = "default"
    """All processes of one user on one host that use a name share its objects."""
    max_bytes: int | None = None
    """Budget of all objects of the name together; None for half of what is free."""
    spill_dir: str | None = None
    """Where objects go that find no room; None for the place of temporary files."""


class SharedMemoryKey(NamedTuple):
    """An object in the shared memory of a host."""

    name: str
    """``host-pid-random`` in hex: of its own file, or of the segment that it is packed in."""
    offset: int = -1
    """In a segment; -1 for a file of its own."""
    size: int = -1
    """In bytes, of a packed object; else -1."""


class _Open:
    """Everything of one connector that a forked child must not share with its parent."""

    def __init__(self, spec: SharedMemorySpec) -> None:
        self.pid = os.getpid()
        self.area = Area(spec.name)
        try:
            self.spill = Spill(self.area, spec.name, spec.spill_dir)
            self.ledger = Ledger(self.area.folder, spec.max_bytes, self.area.alone)
        except BaseException:
            self.area.close()
            raise
        self.packer = Packer(self.area, self.ledger)
        self.pool = Pool(self.ledger)
        self.segments: dict[str, Segment] = {}
        if self.area.alone:
            self.sweep()

    def segment(self, name: str) -> Segment | None:
        found = self.segments.get(name)
        if found is None:
            try:
                found = Segment(self.area.path(name + SUFFIX))
            except FileNotFoundError:
                return None
            # Here, so that memory is not kept for the sake of mappings that nobody looks at.
            for old in [n for n, s in tuple(self.segments.items()) if s.retired]:
                self.segments.pop(old, None)
            self.segments[name] = found
        return found

    def sweep(self) -> int:
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
        self.ledger.recount(now=True)
        return freed

    def close(self) -> None:
        if self.pid != os.getpid():
            return  # a forked child's exit handler; `abandon` has closed everything
        self.pool.empty()
        self.packer.seal()
        if self.area.leave():
            self.sweep()
            self.area.remove_if_empty()
        self.ledger.close()
        self.area.close()

    def abandon(self) -> None:
        self.pool.abandon()
        self.packer.drop()
        self.ledger.close()
        self.area.close()


class SharedMemoryConnector(ConnectorHandle[SharedMemoryKey]):
    """Objects in ``/dev/shm``, read without a copy by every process of this user on this host.

    A large object is a file; `get` maps it privately, so a reader may write to what it got and nobody
    else sees it. The mapping pins the object: its memory is not given to another one before the last
    array made of it is gone, in whichever process, and a killed process pins nothing. Small objects are
    packed and copied out. Objects live until evicted, also after their producer's death; not after a
    reboot. Where memory is full, objects go to disk.

    Args:
        name: all processes of one user on one host that use a name share its objects.
        max_bytes: budget of the name's objects together; None for half of what was free when the
            first process opened it.
        spill_dir: where objects go that find no room; None for the place of temporary files.

    Raises:
        SpecError: a field has an impossible value.
        BrokenError: the memory cannot be used, or another user has taken its place.
    """

    kind = "shm"
    spec_type = SharedMemorySpec
    key_type = SharedMemoryKey

    def __init__(
        self,
        name: str = "default",
        *,
        max_bytes: int | None = None,
        spill_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if max_bytes is not None and max_bytes < 0:
            raise SpecError("shared memory", f"max_bytes must not be negative, got {max_bytes}")
        spill = None if spill_dir is None else os.path.abspath(os.fspath(spill_dir))
        self._shared = SharedMemorySpec(name, max_bytes, spill)
        super().__init__(self._shared)
        self._reopening = threading.Lock()
        self._open: _Open | None = _Open(self._shared)
        self._finalizer = weakref.finalize(self, _Open.close, self._open)
        renew_after_fork(self)

    def put(self, obj: Payload) -> SharedMemoryKey:
        """Store an object: packed if it is small, in memory if there is room, else on disk."""
        here = self._here()
        flat = pieces(obj)
        size = total(flat)
        if size <= PACKED_BYTES:
            packed = here.packer.append(flat, size)
            if packed is None and self._make_room(here):
                packed = here.packer.append(flat, size)
            if packed is not None:
                return SharedMemoryKey(*packed, size)
        name = fresh_name(here.area.host)
        self._store(here, name, flat, size, absent=False)
        return SharedMemoryKey(name)

    def get(self, key: SharedMemoryKey) -> Buffer | None:
        """Return a copy of a small object, a private writable mapping of a large one."""
        here = self._reach(key)
        if key.offset >= 0:
            segment = here.segment(key.name)
            if segment is None or segment.find(key.offset, key.size) is None:
                return None
            return segment.read(key.offset, key.size)
        pinned = self._pin(here, key.name)
        if pinned is None:
            return None
        fd, size = pinned
        try:
            return map_private(fd, size) if size > PACKED_BYTES else read(fd, 0, size)
        finally:
            os.close(fd)

    def get_range(self, key: SharedMemoryKey, offset: int, size: int) -> Buffer | None:
        """Return a copy of a part of the object."""
        here = self._reach(key)
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        if key.offset >= 0:
            whole = self.get(key)
            return None if whole is None else whole[offset : offset + size]
        pinned = self._pin(here, key.name)
        if pinned is None:
            return None
        fd, whole_size = pinned
        try:
            return read(fd, offset, min(size, max(0, whole_size - offset)))
        finally:
            os.close(fd)

    def exists(self, key: SharedMemoryKey) -> bool:
        """Return whether an object lies under `key`."""
        here = self._reach(key)
        if key.offset >= 0:
            segment = here.segment(key.name)
            return segment is not None and segment.find(key.offset, key.size) is not None
        return os.path.exists(here.area.path(key.name))

    def evict(self, key: SharedMemoryKey) -> None:
        """Delete an object; its memory is free when the last view of it is gone."""
        here = self._reach(key)
        if key.offset >= 0:
            segment = here.segment(key.name)
            if segment is not None:
                segment.evict(key.offset, key.size, here.ledger)
        else:
            self._evict_file(here, key.name)

    def reserve(self) -> SharedMemoryKey:
        """Return a fresh key under which nothing lies yet."""
        return SharedMemoryKey(fresh_name(self._here().area.host))

    def put_at(self, key: SharedMemoryKey, obj: Payload) -> bool:
        """Store an object under a reserved key if none lies there."""
        here = self._reach(key)
        if key.offset >= 0:
            raise KeyTypeError(type(self).__name__, "SharedMemoryKey from reserve()", key)
        flat = pieces(obj)
        return self._store(here, key.name, flat, total(flat), absent=True)

    def wait(self, key: SharedMemoryKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`, looking every 0.5 to 5 ms."""
        return poll(lambda: self.exists(key), timeout)

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object of this name."""
        here = self._here()
        for name in os.listdir(here.area.folder):
            base = name.removesuffix(SUFFIX)
            if not is_name(base):
                continue
            if base == name:
                info = self.stat(SharedMemoryKey(name))
                if info is not None:
                    yield info
            elif (segment := here.segment(base)) is not None:
                for found in segment:
                    key = SharedMemoryKey(base, found.offset, found.size)
                    yield ObjectInfo(key, found.size, found.created, owner(base, here.area.host))

    def stat(self, key: SharedMemoryKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        here = self._reach(key)
        whose = owner(key.name, here.area.host)
        if key.offset >= 0:
            segment = here.segment(key.name)
            found = None if segment is None else segment.find(key.offset, key.size)
            return None if found is None else ObjectInfo(key, found.size, found.created, whose)
        try:
            file = os.stat(here.area.path(key.name))
        except FileNotFoundError:
            return None
        return ObjectInfo(key, file.st_size, file.st_mtime, whose)

    def clear(self) -> int:
        """Delete every object of this name, whoever stored it."""
        gone = 0
        for info in list(self.list()):
            key = SharedMemoryKey(*info.key)
            if self.exists(key):
                self.evict(key)
                gone += 1
        here = self._here()
        here.pool.empty()
        here.packer.seal()
        return gone

    def sweep(self) -> int:
        """Delete what killed processes left unfinished; return the bytes freed."""
        return self._here().sweep()

    def _here(self) -> _Open:
        self._check()
        if self._open is None:  # in a forked child
            with self._reopening:
                if self._open is None:
                    self._open = _Open(self._shared)
                    self._finalizer = weakref.finalize(self, _Open.close, self._open)
        return self._open

    def _reach(self, key: SharedMemoryKey) -> _Open:
        self._check(key)
        here = self._here()
        if not is_name(key.name):
            raise KeyTypeError(type(self).__name__, "SharedMemoryKey from put() or reserve()", key)
        if not made_here(key.name, here.area.host):
            raise ElsewhereError(
                repr(self),
                f"the host (or boot, container, user) {key.name.partition('-')[0]}",
                f"{here.area.host}, which is {socket.gethostname()}",
                "use a file connector on a shared file system, or another that both reach",
            )
        return here

    def _pin(self, here: _Open, name: str) -> tuple[int, int] | None:
        """Open an object's file such that it cannot be recycled while the descriptor's lock lasts."""
        path = here.area.path(name)
        try:
            while True:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    if try_lock(fd, shared=True) is not False:
                        # It could have become another object's before we had the lock.
                        found, there = os.fstat(fd), os.stat(path)
                        if found.st_ino == there.st_ino and found.st_dev == there.st_dev:
                            return fd, found.st_size
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenError(f"shared memory {path}", error.strerror) from error

    def _store(
        self,
        here: _Open,
        name: str,
        flat: Sequence[bytes | memoryview],
        size: int,
        absent: bool,
    ) -> bool:
        path = here.area.path(name)
        if absent and os.path.lexists(path):
            return False
        file = self._write(here, name, flat, size)
        if file is None and self._make_room(here):
            file = self._write(here, name, flat, size)
        if file is None:
            return self._spill(here, name, flat, size)
        if absent:
            if not file.publish_if_absent(path):
                here.ledger.free(size)
                return False
        else:
            file.publish(path)
        if isinstance(file, Recycled):
            here.pool.remember(path, file)
        return True

    def _write(
        self, here: _Open, name: str, flat: Sequence[bytes | memoryview], size: int
    ) -> Unfinished | None:
        """Return a filled file, or None if there is no room."""
        recycled = here.pool.take(size)
        if recycled is not None:
            spare = recycled.size - size
            recycled.write(flat)
            if spare:
                here.ledger.free(spare)
            return recycled
        if not here.ledger.book(size):
            return None
        try:
            file = Unfinished(here.area.folder, name, 0o600)
            file.write(flat)
        except OSError as error:
            here.ledger.free(size)
            if full(error):
                return None
            raise
        return file

    def _make_room(self, here: _Open) -> bool:
        """Give up what is kept for reuse, here and elsewhere; return whether another try may succeed."""
        used = here.ledger.used
        emptied = here.pool.empty()
        here.ledger.squeeze()
        here.ledger.recount()
        return emptied or here.ledger.used < used

    def _spill(self, here: _Open, name: str, flat: Sequence[bytes | memoryview], size: int) -> bool:
        try:
            return here.spill.store(name, flat)
        except OSError as error:
            if not full(error) and isinstance(error, BrokenError):
                raise
            raise FullError(
                f"shared memory {here.area.folder} (budget {here.ledger.limit} bytes) and in "
                f"{here.spill.place} ({error.strerror})",
                size,
                "evict objects, or choose another max_bytes or spill_dir",
            ) from None

    def _evict_file(self, here: _Open, name: str) -> None:
        path = here.area.path(name)
        if here.ledger.asked_to_squeeze():
            here.pool.empty()
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError:
            here.spill.evict(name)
            return
        try:
            mapping = here.pool.recall(path)
            size = os.fstat(fd).st_size
            if not here.pool.wants(size):
                if remove(path):
                    here.ledger.free(size)
                return
            # Out of every reader's sight first: who comes now finds nothing, who came before has a lock.
            aside = here.area.path(f".{name}.{os.urandom(4).hex()}.part")
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                return
            same = os.path.samestat(os.stat(aside), os.fstat(fd))
            if same and try_lock(fd):
                here.pool.give(Recycled(aside, fd, size, mapping))
                fd = -1
            elif remove(aside):
                here.ledger.free(size)
        finally:
            if fd >= 0:
                os.close(fd)

    def _release(self) -> None:
        self._finalizer()
        self._open = None  # and with it, the mappings of segments

    def _forked(self) -> None:
        self._reopening = threading.Lock()
        self._finalizer.detach()
        if self._open is not None:
            self._open.abandon()
            self._open = None
