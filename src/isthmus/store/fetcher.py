"""From a key to its object: the cache, one fetch per key at a time, the channel and the codec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.connectors import HoldingConnector
from isthmus.store.cache import Cache
from isthmus.store.flight import SingleFlight
from isthmus.store.metrics import UNMEASURED, StoreMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus import codec
    from isthmus.connectors import Connector
    from isthmus.store.serializers import Serializers

__all__ = ["MISSING", "Fetcher"]

Key = tuple[Any, ...]

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<missing>"})()
"""Stands for an object that is not there: a stored None is one that is."""


class Fetcher:
    """Reads a store's objects; keys are the connector's own.

    Args:
        connector: the channel.
        serializers: turn what it returns into objects.
        cache: keeps them.
        metrics: counts and times, None for neither.
    """

    def __init__(
        self,
        connector: Connector[Any],
        serializers: Serializers,
        cache: Cache,
        metrics: StoreMetrics | None,
    ) -> None:
        self.connector = connector
        self.cache = cache
        self.holds = (
            connector
            if isinstance(connector, HoldingConnector) and not serializers.custom
            else None
        )
        """The connector, if it keeps objects as they are."""
        self._serializers = serializers
        self._metrics = metrics
        self._flights: SingleFlight[Any] = SingleFlight()

    def renewed(self, metrics: StoreMetrics | None) -> Fetcher:
        """Return one with nothing in its cache and nothing under way, for a forked child.

        Threads of the parent are gone, and with them whoever held a lock or flew a fetch.
        """
        cache = Cache(self.cache.max_count, self.cache.max_bytes)
        return Fetcher(self.connector, self._serializers, cache, metrics)

    def get(
        self, key: Key, deserializer: codec.Deserializer | None, options: dict[str, Any]
    ) -> Any:
        """Return an object, from the cache unless something forbids that; ``MISSING`` without one."""
        if deserializer is not None or self.cache.max_count == 0:
            return self._fetch(key, deserializer, options)[0]
        found = self.cache.get(key, MISSING)
        if self._metrics is not None:
            self._metrics.count("cache.miss" if found is MISSING else "cache.hit", key)
        return self._fly(key, options) if found is MISSING else found

    def take(self, key: Key, deserializer: codec.Deserializer | None) -> Any:
        """Return an object and delete it from the channel; ``MISSING`` if there is none."""
        # Whoever evicts takes the only copy: nobody will ask the cache for it.
        found = self.cache.get(key, MISSING) if deserializer is None else MISSING
        if found is MISSING:
            found = self._fetch(key, deserializer, {})[0]
        if found is not MISSING:
            self.connector.evict(key)
            self.forget(key)
        return found

    def get_batch(
        self,
        keys: Sequence[Key],
        deserializer: codec.Deserializer | None,
        options: dict[str, Any],
    ) -> list[Any]:
        """Return several objects, in order, ``MISSING`` for each that is not there."""
        watch = UNMEASURED if self._metrics is None else self._metrics.watch("get_batch")
        cache = self.cache if deserializer is None else Cache(0)
        found = {key: cache.get(key, MISSING) for key in keys}
        wanted = [key for key, obj in found.items() if obj is MISSING]
        size = 0
        if wanted:
            with cache.coming(wanted) as fresh:
                payloads = self.connector.get_batch(wanted, **options)
                size = sum(len(data) for data in payloads if data is not None)
                watch.lap("connector.get", size)
                for key, data in zip(wanted, payloads, strict=True):
                    if data is not None:
                        obj = found[key] = self._serializers.decode(data, deserializer)
                        cache.put(key, obj, len(data), fresh)
            watch.lap("decode", size)
        watch.stop(None, size)
        return [found[key] for key in keys]

    def forget(self, key: Key) -> None:
        """Let nobody here get an object that the channel no longer has, nor one that is on its way."""
        self._flights.forget(key)
        self.cache.evict(key)

    def clear(self) -> None:
        """Forget every object, those on their way too."""
        self._flights.clear()
        self.cache.clear()

    def _fly(self, key: Key, options: dict[str, Any]) -> Any:
        """Fetch an object into the cache, once for all threads that ask for it."""

        def fetch() -> Any:
            # Another thread may have landed this object between our look-up and our flight.
            again = self.cache.get(key, MISSING)
            if again is not MISSING:
                return again
            with self.cache.coming([key]) as fresh:
                obj, size = self._fetch(key, None, options)
                if obj is not MISSING:
                    self.cache.put(key, obj, size, fresh)
            return obj

        return self._flights.run(key, fetch)

    def _fetch(
        self, key: Key, deserializer: codec.Deserializer | None, options: dict[str, Any]
    ) -> tuple[Any, int]:
        """Return the object and its size in bytes, from the channel."""
        watch = UNMEASURED if self._metrics is None else self._metrics.watch("get")
        if self.holds is not None and deserializer is None:
            held = self.holds.get_object(key, MISSING)
            if held is not MISSING:
                watch.stop(key)
                return held, 0
        data = self.connector.get(key, **options)
        if data is None:
            watch.stop(key)
            return MISSING, 0
        size = len(data)
        watch.lap("connector.get", size)
        obj = self._serializers.decode(data, deserializer)
        watch.lap("decode", size)
        watch.stop(key, size)
        return obj, size
