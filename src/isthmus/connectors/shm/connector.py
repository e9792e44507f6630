"""The connector: which way an object goes, and which keys are let in."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.leases import OFTEN_SECONDS, now, stale, terms, upkeep
from isthmus.connectors.mapping import map_private, read
from isthmus.connectors.naming import fresh_name, is_name, made_here, owner
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.polling import poll
from isthmus.connectors.protocol import ObjectInfo
from isthmus.connectors.shm.segment import PACKED_BYTES, SUFFIX
from isthmus.connectors.shm.session import Session, lease_name
from isthmus.errors import ElsewhereError, KeyTypeError, SpecError
from isthmus.forking import renew_after_fork
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.connectors.leases import Terms
    from isthmus.connectors.leases.grant import Grant
    from isthmus.connectors.protocol import Buffer, Payload

__all__ = ["SharedMemoryConnector", "SharedMemoryKey", "SharedMemorySpec"]


class SharedMemorySpec(Spec):
    """Which shared memory a `SharedMemoryConnector` uses."""

    name: str = "default"
    """All processes of one user on one host that use a name share its objects."""
    max_bytes: int | None = None
    """Budget of all objects of the name together; None for half of what is free."""
    spill_dir: str | None = None
    """Where objects go that find no room, made absolute; None for the place of temporary files."""

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < 0:
            raise SpecError(
                "shared memory", f"max_bytes must not be negative, got {self.max_bytes}"
            )
        if self.spill_dir is not None:
            msgspec.structs.force_setattr(self, "spill_dir", os.path.abspath(self.spill_dir))


class SharedMemoryKey(NamedTuple):
    """An object in the shared memory of a host."""

    name: str
    """``host-pid-random`` in hex: of its own file, or of the segment that it is packed in."""
    offset: int = -1
    """In a segment; -1 for a file of its own."""
    size: int = -1
    """In bytes, of a packed object; else -1."""


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
        spill = None if spill_dir is None else os.fspath(spill_dir)
        self._shared = SharedMemorySpec(name, max_bytes, spill)
        super().__init__(self._shared)
        self._reopening = threading.Lock()
        self._open: Session | None = Session(self._shared)
        self._finalizer = weakref.finalize(self, Session.close, self._open)
        renew_after_fork(self)
        area = self._open.area
        if area.alone:
            self._sweep_deserted(leased=False)
        if stale(area.folder, OFTEN_SECONDS) or (area.alone and any(area.deserted(leased=True))):
            upkeep.watch(self, now())

    def put(
        self, obj: Payload, *, lease: float | None = None, held: bool = False
    ) -> SharedMemoryKey:
        """Store an object: packed if it is small, in memory if there is room, else on disk."""
        if (lease is not None or held) and (given := terms(lease, held)) is not None:
            return self._put_leased(obj, given)
        here = self._here()
        flat = pieces(obj)
        size = total(flat)
        if size <= PACKED_BYTES:
            packed = here.packer.append(flat, size)
            if packed is None and here.make_room():
                packed = here.packer.append(flat, size)
            if packed is not None:
                return SharedMemoryKey(*packed, size)
        name = fresh_name(here.area.host)
        here.store(name, flat, size, absent=False)
        return SharedMemoryKey(name)

    def _put_leased(self, obj: Payload, given: Terms) -> SharedMemoryKey:
        here = self._here()
        here.ledger.note_lease()
        flat = pieces(obj)
        size = total(flat)
        key: SharedMemoryKey | None = None
        if size <= PACKED_BYTES:

            def grant(name: str, offset: int) -> Grant:
                return here.leases.grant(lease_name(name, offset, size), 1, given)

            packed = here.packer.append(flat, size, grant)
            if packed is None and here.make_room():
                packed = here.packer.append(flat, size, grant)
            if packed is not None:
                key = SharedMemoryKey(*packed, size)
        if key is None:
            key = SharedMemoryKey(fresh_name(here.area.host))
            here.store(key.name, flat, size, absent=False, given=given)
        upkeep.watch(self, now() + given.seconds)
        return key

    def put_batch(
        self, objs: Sequence[Payload], *, lease: float | None = None, held: bool = False
    ) -> _Keys:
        """Store several objects, one after the other."""
        return [self.put(obj, lease=lease, held=held) for obj in objs]

    def get(self, key: SharedMemoryKey) -> Buffer | None:
        """Return a copy of a small object, a private mapping of a large one; both may be written to."""
        here = self._reach(key)
        if key.offset >= 0:
            segment = here.segment(key.name)
            if segment is None or segment.find(key.offset, key.size) is None:
                return None
            return segment.read(key.offset, key.size)
        pinned = here.pin(key.name)
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
        pinned = here.pin(key.name)
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
        self._reach(key).evict(*key)

    def reserve(self) -> SharedMemoryKey:
        """Return a fresh key under which nothing lies yet."""
        return SharedMemoryKey(fresh_name(self._here().area.host))

    def put_at(
        self,
        key: SharedMemoryKey,
        obj: Payload,
        *,
        lease: float | None = None,
        held: bool = False,
    ) -> bool:
        """Store an object under a reserved key if none lies there."""
        given = terms(lease, held)
        here = self._reach(key)
        if key.offset >= 0:
            raise KeyTypeError(type(self).__name__, "SharedMemoryKey from reserve()", key)
        flat = pieces(obj)
        if given is not None:
            here.ledger.note_lease()
        won = here.store(key.name, flat, total(flat), absent=True, given=given)
        if won and given is not None:
            upkeep.watch(self, now() + given.seconds)
        return won

    def lease(self, key: SharedMemoryKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now unless its lease is renewed by then.

        Raises:
            BrokenError: another process has the lease locked, and is suspended.
        """
        given = terms(seconds, held)
        here = self._reach(key)
        if given is None:
            return (
                here.leases.lease(lease_name(*key), None)
                if here.ledger.leased
                else self.exists(key)
            )
        here.ledger.note_lease()
        found = here.leases.lease(lease_name(*key), given)
        if found:
            upkeep.watch(self, now() + given.seconds)
        return found

    def renew(self, keys: Sequence[SharedMemoryKey]) -> _Answers:
        """Begin the period of each object's lease anew."""
        dues = [self._reach(key).leases.renew(lease_name(*key)) for key in keys]
        known = [due for due in dues if due is not None]
        if known:
            upkeep.watch(self, min(known))
        return [due is not None for due in dues]

    def wait(self, key: SharedMemoryKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`, looking every 0.5 to 5 ms."""
        return poll(lambda: self.exists(key), timeout)

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object of this name."""
        here = self._here()
        for name in os.listdir(here.area.folder):
            base = name.removesuffix(SUFFIX)
            if not is_name(base) or not made_here(base, here.area.host):
                continue  # of another boot, where the place outlives one: no key reaches it
            if base == name:
                info = self.stat(SharedMemoryKey(name))
                if info is not None:
                    yield info
            elif (segment := here.segment(base)) is not None:
                for found in segment:
                    key = SharedMemoryKey(base, found.offset, found.size)
                    whose, until = owner(base, here.area.host), self._until(here, key)
                    yield ObjectInfo(key, found.size, found.created, whose, until)

    def stat(self, key: SharedMemoryKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        here = self._reach(key)
        whose = owner(key.name, here.area.host)
        if key.offset >= 0:
            segment = here.segment(key.name)
            found = None if segment is None else segment.find(key.offset, key.size)
            if found is None:
                return None
            return ObjectInfo(key, found.size, found.created, whose, self._until(here, key))
        try:
            file = os.stat(here.area.path(key.name))
        except FileNotFoundError:
            return None
        return ObjectInfo(key, file.st_size, file.st_mtime, whose, self._until(here, key))

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
        """Delete what killed processes left unfinished, and what is overdue; return the bytes freed.

        Other names that nobody has open are swept too, and go if they hold no object.
        """
        self._sweep_deserted(leased=False)
        self._sweep_deserted(leased=True)
        return self._here().sweep()

    def _sweep_leases(self) -> float | None:
        here = self._here()
        if here.area.alone:
            self._sweep_deserted(leased=True)
        return here.leases.sweep().due

    @staticmethod
    def _until(here: Session, key: SharedMemoryKey) -> float | None:
        return here.leases.until(lease_name(*key)) if here.ledger.leased else None

    def _sweep_deserted(self, *, leased: bool) -> None:
        # Many names are made up for one run: nobody would ever come back to clean up under them.
        for name in self._here().area.deserted(leased=leased):
            with contextlib.suppress(OSError):
                Session(SharedMemorySpec(name)).close()

    def _here(self) -> Session:
        self._check()
        if self._open is None:  # in a forked child
            with self._reopening:
                if self._open is None:
                    self._open = Session(self._shared)
                    self._finalizer = weakref.finalize(self, Session.close, self._open)
        return self._open

    def _reach(self, key: SharedMemoryKey) -> Session:
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

    def _release(self) -> None:
        upkeep.forget(self)
        self._finalizer()
        self._open = None  # and with it, the mappings of segments

    def _forked(self) -> None:
        self._reopening = threading.Lock()
        self._finalizer.detach()
        if self._open is not None:
            self._open.abandon()
            self._open = None


# Named out here: inside the class, `list` is its method.
_Keys: TypeAlias = "list[SharedMemoryKey]"
_Answers: TypeAlias = "list[bool]"
