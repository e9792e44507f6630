"""Objects in the memory of this process.

A key says which process made it. After a fork the child has a snapshot: it finds what the parent had
stored before, and neither sees what the other does from then on.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from isthmus import codec
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.leases import now, terms, upkeep
from isthmus.connectors.payload import immutable, pieces, total
from isthmus.connectors.protocol import ObjectInfo
from isthmus.errors import ElsewhereError
from isthmus.forking import renew_after_fork
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.connectors.leases import Terms
    from isthmus.connectors.protocol import Buffer, Payload

__all__ = ["MemoryConnector", "MemoryKey", "MemorySpec"]


class MemorySpec(Spec):
    """Where a `MemoryConnector` keeps its objects."""

    name: str = "default"
    """Connectors of one process with the same name share their objects."""


class MemoryKey(NamedTuple):
    """An object in a process's memory."""

    process: str
    """The process that made the key: ``pid-random``."""
    number: int
    """Never used twice in one process."""


class _Stored:
    """One object: its pieces until somebody wants it whole."""

    __slots__ = ("created", "pieces", "size")

    def __init__(self, flat: list[bytes | memoryview]) -> None:
        self.pieces = flat
        self.size = total(flat)
        self.created = time.time()

    def whole(self) -> bytes | memoryview:
        flat = self.pieces
        if len(flat) != 1:
            # Kept, so that the second reader does not pay again; two threads at once do no harm.
            self.pieces = flat = [b"".join(flat)]
        return flat[0]


class _Held:
    """One object that is kept as it is; it becomes bytes if somebody asks for those."""

    __slots__ = ("created", "obj")

    def __init__(self, obj: Any) -> None:
        self.obj = obj
        self.created = time.time()

    @property
    def size(self) -> int:
        return codec.size(codec.encode(self.obj))

    def whole(self) -> bytes:
        return codec.serialize(self.obj)


class _Lease:
    """Until when one object is kept."""

    __slots__ = ("terms", "until")

    def __init__(self, given: Terms) -> None:
        self.terms = given
        self.begin()

    def begin(self) -> None:
        # An object dies with its process: one that this process holds has no deadline.
        self.until = float("inf") if self.terms.held else now() + self.terms.seconds


class _Process:
    """Who this process is, whose snapshots it has, and its spaces by name."""

    def __init__(self) -> None:
        self.spaces: dict[str, dict[MemoryKey, _Stored | _Held]] = {}
        self.leases: dict[str, dict[MemoryKey, _Lease]] = {}
        """By space; a lease of an object that is gone goes when it runs out."""
        self.inherited: dict[str, int] = {}
        """Number that a process we were forked from had reached by then."""
        self._identify()
        renew_after_fork(self)

    def _identify(self) -> None:
        # Not the bare pid, which the system gives out again.
        self.identity = f"{os.getpid()}-{os.urandom(4).hex()}"
        self.numbers = itertools.count()
        self.arrived = threading.Condition()
        self.leasing = threading.RLock()  # a finalizer, run anywhere, may put or evict

    def _forked(self) -> None:
        self.inherited[self.identity] = next(self.numbers)
        self._identify()


_process = _Process()


_UNCHANGING = frozenset((bytes, str, int, float, complex, bool, type(None)))
"""Types (not their subclasses, which may carry state) whose objects nobody can change."""


class MemoryConnector(ConnectorHandle[MemoryKey]):
    """Objects in the memory of this process, for threads of one program, tests, and as a cache.

    Args:
        name: connectors of one process with the same name share their objects.
    """

    kind = "memory"
    spec_type = MemorySpec
    key_type = MemoryKey

    def __init__(self, name: str = "default") -> None:
        super().__init__(MemorySpec(name))
        self._objects = _process.spaces.setdefault(name, {})
        self._leases = _process.leases.setdefault(name, {})
        if self._leases:
            upkeep.watch(self, now())

    def put(
        self,
        obj: Payload,
        *,
        copy: bool = True,
        lease: float | None = None,
        held: bool = False,
    ) -> MemoryKey:
        """Store a snapshot of an object.

        Args:
            obj: bytes that nobody can change are kept by reference, all others are copied once.
            copy: False keeps references to all of it; the caller promises not to change it.
            lease: see `lease`.
            held: see `lease`.
        """
        self._check()
        given = terms(lease, held) if lease is not None or held else None
        stored = _Stored(_snapshot(obj, copy))
        key = self.reserve()
        self._objects[key] = stored
        if given is not None:
            self._give(key, given)
        return key

    def put_batch(
        self, objs: Sequence[Payload], *, lease: float | None = None, held: bool = False
    ) -> _Keys:
        """Store several objects, one after the other."""
        return [self.put(obj, lease=lease, held=held) for obj in objs]

    def get(self, key: MemoryKey) -> Buffer | None:
        """Return the object, read-only and without a copy."""
        stored = self._find(key)
        if stored is None:
            return None
        whole = stored.whole()
        return whole if type(whole) is bytes else memoryview(whole).toreadonly()

    def put_object(
        self,
        obj: Any,
        *,
        copy: bool = True,
        lease: float | None = None,
        held: bool = False,
    ) -> MemoryKey | None:
        """Keep the object itself if nobody can change it, or if the caller promises not to.

        Args:
            obj: any object.
            copy: False is that promise.
            lease: see `lease`.
            held: see `lease`.

        Returns:
            None if the object has to be copied, which means: encoded and `put`.
        """
        self._check()
        given = terms(lease, held)
        if copy and type(obj) not in _UNCHANGING:
            return None
        key = self.reserve()
        self._objects[key] = _Held(obj)
        if given is not None:
            self._give(key, given)
        return key

    def get_object(self, key: MemoryKey, default: Any = None) -> Any:
        """Return the very object that `put_object` kept, or `default` if it kept none here."""
        stored = self._find(key)
        return stored.obj if type(stored) is _Held else default

    def get_range(self, key: MemoryKey, offset: int, size: int) -> Buffer | None:
        """Return a view of a part of the object."""
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        whole = self.get(key)
        return None if whole is None else memoryview(whole)[offset : offset + size]

    def exists(self, key: MemoryKey) -> bool:
        """Return whether an object lies under `key`."""
        return self._find(key) is not None

    def evict(self, key: MemoryKey) -> None:
        """Delete an object; no error if there is none."""
        if self._find(key) is not None:
            self._objects.pop(key, None)
            self._leases.pop(key, None)

    def reserve(self) -> MemoryKey:
        """Return a fresh key under which nothing lies yet."""
        self._check()
        return MemoryKey(_process.identity, next(_process.numbers))

    def put_at(
        self,
        key: MemoryKey,
        obj: Payload,
        *,
        copy: bool = True,
        lease: float | None = None,
        held: bool = False,
    ) -> bool:
        """Store an object under a reserved key if none lies there; wakes those who wait."""
        self._find(key)
        given = terms(lease, held)
        stored = _Stored(_snapshot(obj, copy))
        with _process.arrived:
            won = self._objects.setdefault(key, stored) is stored
            if won and given is not None:
                self._give(key, given)
            _process.arrived.notify_all()
        return won

    def lease(self, key: MemoryKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now unless its lease is renewed by then.

        Args:
            key: of the object.
            seconds: None to keep it until it is evicted.
            held: keeps it as long as this process lives, and no object here lives longer.
        """
        given = terms(seconds, held)
        if self._find(key) is None:
            return False
        if given is None:
            self._leases.pop(key, None)
        else:
            self._give(key, given)
        return self._find(key) is not None

    def renew(self, keys: Sequence[MemoryKey]) -> _Answers:
        """Begin the period of each object's lease anew."""
        found = [self._find(key) is not None for key in keys]
        with _process.leasing:
            for at, key in enumerate(keys):
                lease = self._leases.get(key) if key in self._objects else None
                found[at] = lease is not None
                if lease is not None:
                    lease.begin()
        return found

    def wait(self, key: MemoryKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`; woken at once."""
        self._find(key)
        with _process.arrived:
            return _process.arrived.wait_for(lambda: self._find(key) is not None, timeout)

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object of this name in this process."""
        self._check()
        for key, stored in tuple(self._objects.items()):
            yield self._info(key, stored)

    def stat(self, key: MemoryKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        stored = self._find(key)
        return None if stored is None else self._info(key, stored)

    def clear(self) -> int:
        """Delete every object of this name in this process."""
        self._check()
        gone = len(self._objects)
        self._objects.clear()
        self._leases.clear()
        return gone

    def sweep(self) -> int:
        """Delete what is overdue; what a killed process left unfinished here died with it."""
        return self._sweep()[0]

    def _give(self, key: MemoryKey, given: Terms) -> None:
        with _process.leasing:
            lease = self._leases[key] = _Lease(given)
        if not given.held:
            upkeep.watch(self, lease.until)

    def _sweep(self) -> tuple[int, float | None]:
        self._check()
        freed, due = 0, float("inf")
        with _process.leasing:  # a lease is renewed before or after this, not meanwhile
            for key, lease in tuple(self._leases.items()):
                if lease.until >= now():
                    due = min(due, lease.until)
                    continue
                self._leases.pop(key, None)
                gone = self._objects.pop(key, None)
                # What was kept as it is has no size before it is encoded.
                freed += gone.size if type(gone) is _Stored else 0
        return freed, None if due == float("inf") else due

    def _sweep_leases(self) -> float | None:
        return self._sweep()[1]

    def _release(self) -> None:
        upkeep.forget(self)

    def _find(self, key: MemoryKey) -> _Stored | _Held | None:
        self._check(key)
        stored = self._objects.get(key)
        if stored is None and key.process != _process.identity:
            self._check_reach(key)
        return stored

    def _check_reach(self, key: MemoryKey) -> None:
        # What a process had stored when we were forked from it, we would have: it is gone. Of what it
        # did later, or of any other process, we cannot know.
        if key.number >= _process.inherited.get(key.process, 0):
            raise ElsewhereError(
                repr(self),
                f"process {key.process.partition('-')[0]}",
                f"process {os.getpid()} on {socket.gethostname()}",
                "use the shm connector between processes of one host, a file connector between hosts",
            )

    def _info(self, key: MemoryKey, stored: _Stored | _Held) -> ObjectInfo:
        lease = self._leases.get(key)
        until = None if lease is None or lease.terms.held else time.time() + lease.until - now()
        owner = f"{socket.gethostname()}:{key.process.partition('-')[0]}"
        return ObjectInfo(key, stored.size, stored.created, owner, until)


def _snapshot(obj: Payload, copy: bool) -> list[bytes | memoryview]:
    flat = pieces(obj)
    if copy and not all(map(immutable, flat)):
        return [b"".join(flat)]
    return flat


# Named out here: inside the class, `list` is its method.
_Keys: TypeAlias = "list[MemoryKey]"
_Answers: TypeAlias = "list[bool]"
