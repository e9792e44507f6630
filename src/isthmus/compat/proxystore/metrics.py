"""A store's metrics in ProxyStore's form: milliseconds, and its names for what is timed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from isthmus import store

__all__ = ["Metrics", "StoreMetrics", "TimeStats"]

_TIMES = {
    "put": "store.put",
    "put_batch": "store.put_batch",
    "get": "store.get",
    "get_batch": "store.get_batch",
    "exists": "store.exists",
    "evict": "store.evict",
    "proxy": "store.proxy",
    "resolve": "factory.resolve",
    "encode": "store.put.serialize",
    "decode": "store.get.deserialize",
    "connector.put": "store.put.connector",
    "connector.get": "store.get.connector",
}
_COUNTERS = {"cache.hit": "store.get.cache_hits", "cache.miss": "store.get.cache_misses"}
_SIZES = {"encode": "store.put.object_size", "connector.get": "store.get.object_size"}


@dataclasses.dataclass(frozen=True)
class TimeStats:
    """How long one kind of operation took."""

    count: int
    avg_time_ms: float
    min_time_ms: float
    max_time_ms: float


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What is known of one object, or of all together."""

    attributes: dict[str, Any]
    """Sizes in bytes, the mean where there were several."""
    counters: dict[str, int]
    times: dict[str, TimeStats]

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins."""
        return dataclasses.asdict(self)


class StoreMetrics:
    """The view of one store's metrics."""

    def __init__(self, metrics: store.StoreMetrics) -> None:
        self._metrics = metrics

    def get_metrics(self, key_or_proxy: Hashable) -> Metrics | None:
        """Return what this process did with an object, by its key or by a proxy of it; None if nothing."""
        found = self._metrics.get_metrics(key_or_proxy)
        return None if found is None else _translated(found)

    def aggregate_metrics(self) -> dict[str, TimeStats]:
        """Return the times of each operation, over all objects."""
        return _translated(self._metrics.totals()).times


def _translated(metrics: store.Metrics) -> Metrics:
    return Metrics(
        {_SIZES[name]: op.bytes // op.count for name, op in metrics.items() if name in _SIZES},
        {_COUNTERS[name]: op.count for name, op in metrics.items() if name in _COUNTERS},
        {_TIMES[name]: _stats(op) for name, op in metrics.items() if name in _TIMES},
    )


def _stats(op: store.Operation) -> TimeStats:
    milliseconds = (op.seconds / op.count, op.min_seconds, op.max_seconds)
    return TimeStats(op.count, *(1e3 * seconds for seconds in milliseconds))
