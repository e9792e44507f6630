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
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus import codec
from isthmus.connectors.forking import renew_after_fork
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.payload import immutable, pieces, total
from isthmus.connectors.protocol import ObjectInfo
from isthmus.errors import ElsewhereError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

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


class _Process:
    """Who this process is, whose snapshots it has, and its spaces by name."""

    def __init__(self) -> None:
        self.spaces: dict[str, dict[MemoryKey, _Stored | _Held]] = {}
        self.inherited: dict[str, int] = {}
        """Number that a process we were forked from had reached by then."""
        self._identify()
        renew_after_fork(self)

    def _identify(self) -> None:
        # Not the bare pid, which the system gives out again.
        self.identity = f"{os.getpid()}-{os.urandom(4).hex()}"
        self.numbers = itertools.count()
        self.arrived = threading.Condition()

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

    def put(self, obj: Payload, *, copy: bool = True) -> MemoryKey:
        """Store a snapshot of an object.

        Args:
            obj: bytes that nobody can change are kept by reference, all others are copied once.
            copy: False keeps references to all of it; the caller promises not to change it.
        """
        self._check()
        stored = _Stored(_snapshot(obj, copy))
        key = self.reserve()
        self._objects[key] = stored
        return key

    def get(self, key: MemoryKey) -> Buffer | None:
        """Return the object, read-only and without a copy."""
        stored = self._find(key)
        if stored is None:
            return None
        whole = stored.whole()
        return whole if type(whole) is bytes else memoryview(whole).toreadonly()

    def put_object(self, obj: Any, *, copy: bool = True) -> MemoryKey | None:
        """Keep the object itself if nobody can change it, or if the caller promises not to.

        Args:
            obj: any object.
            copy: False is that promise.

        Returns:
            None if the object has to be copied, which means: encoded and `put`.
        """
        self._check()
        if copy and type(obj) not in _UNCHANGING:
            return None
        key = self.reserve()
        self._objects[key] = _Held(obj)
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

    def reserve(self) -> MemoryKey:
        """Return a fresh key under which nothing lies yet."""
        self._check()
        return MemoryKey(_process.identity, next(_process.numbers))

    def put_at(self, key: MemoryKey, obj: Payload, *, copy: bool = True) -> bool:
        """Store an object under a reserved key if none lies there; wakes those who wait."""
        self._find(key)
        stored = _Stored(_snapshot(obj, copy))
        with _process.arrived:
            won = self._objects.setdefault(key, stored) is stored
            _process.arrived.notify_all()
        return won

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
        return gone

    def sweep(self) -> int:
        """Return 0: what a killed process left unfinished here died with it."""
        self._check()
        return 0

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

    @staticmethod
    def _info(key: MemoryKey, stored: _Stored | _Held) -> ObjectInfo:
        owner = f"{socket.gethostname()}:{key.process.partition('-')[0]}"
        return ObjectInfo(key, stored.size, stored.created, owner)


def _snapshot(obj: Payload, copy: bool) -> list[bytes | memoryview]:
    flat = pieces(obj)
    if copy and not all(map(immutable, flat)):
        return [b"".join(flat)]
    return flat
