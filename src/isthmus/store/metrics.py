"""Counts, times and bytes of a store's operations, in total and per object."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Metrics", "Operation", "Stopwatch", "StoreMetrics"]


class Operation(msgspec.Struct):
    """What one kind of operation did so far."""

    count: int = 0
    seconds: float = 0.0
    """Total time."""
    min_seconds: float = float("inf")
    max_seconds: float = 0.0
    bytes: int = 0
    """Total bytes moved, where the operation moves any."""

    def add(self, seconds: float, nbytes: int) -> None:
        """Count one more."""
        self.count += 1
        self.seconds += seconds
        self.min_seconds = min(self.min_seconds, seconds)
        self.max_seconds = max(self.max_seconds, seconds)
        self.bytes += nbytes

    def __str__(self) -> str:
        took = f" in {self.seconds:.6f} s" if self.seconds else ""
        moved = f", {self.bytes} bytes" if self.bytes else ""
        return f"{self.count}{took}{moved}"


class Metrics(dict[str, Operation]):
    """Operations by name.

    ``put``, ``get``, ``exists``, ``evict``, ``proxy`` and ``resolve`` are the store's own; within them
    ``encode`` and ``decode`` are the codec's share, ``connector.put`` and ``connector.get`` the
    channel's; ``cache.hit`` and ``cache.miss`` count look-ups.
    """

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, with the mean time per call beside the totals."""
        return {
            name: {**msgspec.to_builtins(op), "mean_seconds": op.seconds / op.count}
            for name, op in self.items()
        }

    def add(self, name: str, seconds: float, nbytes: int) -> None:
        """Count one operation."""
        operation = self.get(name)
        if operation is None:
            operation = self[name] = Operation()
        operation.add(seconds, nbytes)


class StoreMetrics:
    """The metrics of one store in this process.

    Args:
        max_objects: how many objects have a record of their own; beyond that, the least recently
            touched lose theirs, so that a long run's metrics do not grow without bound.
    """

    def __init__(self, max_objects: int = 10_000) -> None:
        self.max_objects = max_objects
        self._totals = Metrics()
        self._objects: OrderedDict[Hashable, Metrics] = OrderedDict()
        self._lock = threading.RLock()  # a finalizer, run anywhere, may use the store

    def watch(self, operation: str) -> Stopwatch:
        """Start timing an operation."""
        return Stopwatch(self, operation)

    def count(self, operation: str, key: Hashable | None = None) -> None:
        """Count an event that takes no time worth measuring, such as a cache hit."""
        self._record(key, [(operation, 0.0, 0)])

    def totals(self) -> Metrics:
        """Return a copy of the sums over all objects."""
        with self._lock:
            return _copied(self._totals)

    def get_metrics(self, key: Hashable) -> Metrics | None:
        """Return a copy of what is known of one object, by its key or by a proxy of it.

        None if this process did nothing with the object (or too long ago, see `max_objects`).
        """
        from isthmus.proxy import get_factory, is_proxy

        if is_proxy(key):
            key = getattr(get_factory(key), "key", None)
        with self._lock:
            found = self._objects.get(key)
            return None if found is None else _copied(found)

    def __repr__(self) -> str:
        operations = "".join(f"\n  {name}: {op}" for name, op in sorted(self.totals().items()))
        return f"<StoreMetrics{operations or ' of nothing yet'}>"

    def _record(self, key: Hashable | None, laps: list[tuple[str, float, int]]) -> None:
        with self._lock:
            records = [self._totals]
            if key is not None:
                if key in self._objects:
                    self._objects.move_to_end(key)
                else:
                    self._objects[key] = Metrics()
                    if len(self._objects) > self.max_objects:
                        self._objects.popitem(last=False)
                records.append(self._objects[key])
            for record in records:
                for name, seconds, nbytes in laps:
                    record.add(name, seconds, nbytes)


class Stopwatch:
    """Times an operation and its parts, and records them together when the key is known."""

    __slots__ = ("_laps", "_last", "_metrics", "_operation", "_start")

    def __init__(self, metrics: StoreMetrics, operation: str) -> None:
        self._metrics = metrics
        self._operation = operation
        self._laps: list[tuple[str, float, int]] = []
        self._start = self._last = time.perf_counter()

    def lap(self, part: str, nbytes: int = 0) -> None:
        """Note that a part of the operation ended now."""
        now = time.perf_counter()
        self._laps.append((part, now - self._last, nbytes))
        self._last = now

    def stop(self, key: Hashable | None, nbytes: int = 0) -> None:
        """Record the operation and its parts."""
        self._laps.append((self._operation, time.perf_counter() - self._start, nbytes))
        self._metrics._record(key, self._laps)


class _Unmeasured:
    """Stands in for a stopwatch where metrics are off, so that operations are written once."""

    __slots__ = ()

    def lap(self, part: str, nbytes: int = 0) -> None:
        pass

    def stop(self, key: Hashable | None, nbytes: int = 0) -> None:
        pass


UNMEASURED = _Unmeasured()


def _copied(metrics: Metrics) -> Metrics:
    return Metrics({name: msgspec.structs.replace(op) for name, op in metrics.items()})
