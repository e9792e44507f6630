"""Python objects over a connector, by key: the codec, the cache and the metrics of a store."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus import codec
from isthmus.connectors import (
    LeasingConnector,
    ListableConnector,
    ReservingConnector,
    TypedConnector,
    WaitingConnector,
)
from isthmus.errors import CapabilityError, ClosedError, KeyTypeError
from isthmus.forking import renew_after_fork
from isthmus.store.fetcher import MISSING, Fetcher
from isthmus.store.metrics import UNMEASURED, StoreMetrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from isthmus.connectors import Connector
    from isthmus.store.cache import Cache
    from isthmus.store.lifetime import Lifetime
    from isthmus.store.serializers import Serializers

__all__ = ["Key", "Objects"]

Key = tuple[Any, ...]


class Objects:
    """What a :class:`~isthmus.store.Store` does with keys; it adds proxies and a name that travels.

    Args:
        name: for error messages.
        connector: the channel.
        serializers: the codec or what stands in its place.
        cache: keeps objects that were read.
        metrics: count and time operations, see :attr:`metrics`.
    """

    def __init__(
        self,
        name: str,
        connector: Connector[Any],
        serializers: Serializers,
        cache: Cache,
        *,
        metrics: bool,
    ) -> None:
        self.name = name
        self.connector: Connector[Any] = connector
        self.metrics = StoreMetrics() if metrics else None
        """Metrics of this process, None unless asked for."""
        self.closed = False
        self._serializers = serializers
        self._fetcher = Fetcher(connector, serializers, cache, self.metrics)
        self._tells_type = isinstance(connector, TypedConnector) and connector.takes_type
        renew_after_fork(self)

    def put(
        self,
        obj: Any,
        *,
        serializer: codec.Serializer | None = None,
        lease: float | None = None,
        lifetime: Lifetime | None = None,
        **options: Any,
    ) -> Key:
        """Store an object and return its key.

        Args:
            obj: any object that the serializer takes.
            serializer: used for this object alone.
            lease: seconds that it is kept unless :meth:`renew` is called in time; None until it is evicted.
            lifetime: evicts the object when it ends, see :mod:`isthmus.store.lifetime`.
            **options: handed to the connector's ``put``; with a lease ``held=True``, see
                :class:`~isthmus.connectors.LeasingConnector`.

        Raises:
            CodecError: the object cannot be serialized.
            FullError: there is no room for it.
            CapabilityError: there is a lease, and the connector gives none.
            LifetimeEndedError: the lifetime has ended; nothing was stored.
        """
        self._check_open()
        if lifetime is not None:
            from isthmus.store.lifetime.protocol import store_under

            def put() -> list[Key]:
                return [self._put(obj, serializer, options)]

            return store_under(lifetime, self, lease, options, put)[0]
        self._with_lease(options, lease)
        return self._put(obj, serializer, options)

    def _put(self, obj: Any, serializer: codec.Serializer | None, options: dict[str, Any]) -> Key:
        watch = self._watch("put")
        holds = self._fetcher.holds
        if holds is not None and serializer is None:
            held: Key | None = holds.put_object(obj, **options)
            if held is not None:
                watch.stop(held)
                return held
        if self._tells_type:
            options.setdefault("of", type(obj))
        pieces = self._serializers.encode(obj, serializer)
        size = codec.size(pieces)
        watch.lap("encode", size)
        key: Key = self.connector.put(pieces, **options)
        watch.lap("connector.put", size)
        watch.stop(key, size)
        return key

    def put_batch(
        self,
        objs: Iterable[Any],
        *,
        serializer: codec.Serializer | None = None,
        lease: float | None = None,
        lifetime: Lifetime | None = None,
        **options: Any,
    ) -> list[Key]:
        """Store several objects in one operation of the channel, where it has one; see :meth:`put`."""
        self._check_open()
        if lifetime is not None:
            from isthmus.store.lifetime.protocol import store_under

            objs = list(objs)
            put = partial(self._put_batch, objs, serializer, options)
            return list(store_under(lifetime, self, lease, options, put))
        self._with_lease(options, lease)
        return self._put_batch(objs, serializer, options)

    def _put_batch(
        self, objs: Iterable[Any], serializer: codec.Serializer | None, options: dict[str, Any]
    ) -> list[Key]:
        watch = self._watch("put_batch")
        if self._tells_type:
            objs = list(objs)
            options.setdefault("of", [type(obj) for obj in objs])
        payloads = [self._serializers.encode(obj, serializer) for obj in objs]
        size = sum(map(codec.size, payloads))
        watch.lap("encode", size)
        keys: list[Key] = self.connector.put_batch(payloads, **options)
        watch.lap("connector.put", size)
        watch.stop(None, size)
        return keys

    def get(
        self,
        key: Key,
        default: Any = None,
        *,
        deserializer: codec.Deserializer | None = None,
        **options: Any,
    ) -> Any:
        """Return the object under a key, or `default` if there is none.

        The object is shared with every caller that gets it from the cache.

        Args:
            key: what :meth:`put` returned.
            default: returned for a missing object; a stored None is not missing.
            deserializer: used for this call alone, which then leaves the cache as it is.
            **options: handed to the connector's ``get``.

        Raises:
            KeyTypeError: the key is of another connector, or no key.
            CodecError: what is stored is not an object of ours.
            ElsewhereError: it lies in the memory of another host.
        """
        self._check_open()
        found = self._fetcher.get(self._own(key), deserializer, options)
        return default if found is MISSING else found

    def get_batch(
        self,
        keys: Sequence[Key],
        default: Any = None,
        *,
        deserializer: codec.Deserializer | None = None,
        **options: Any,
    ) -> list[Any]:
        """Return the objects under several keys, in order, `default` for each that is missing."""
        self._check_open()
        found = self._fetcher.get_batch([self._own(key) for key in keys], deserializer, options)
        return [default if obj is MISSING else obj for obj in found]

    def lease(self, key: Key, seconds: float | None, **options: Any) -> bool:
        """Let an object go `seconds` from now unless its lease is renewed; None to keep it.

        Caches keep what they have: a process that got the object before may still get it from there.

        Args:
            key: what :meth:`put` returned.
            seconds: length of the lease, from now and from each renewal on.
            **options: handed to the connector's ``lease``: ``held``.

        Returns:
            False if there is no object.

        Raises:
            CapabilityError: the connector gives no leases.
        """
        self._check_open()
        return self._leasing().lease(self._own(key), seconds, **options)

    def renew(self, keys: Iterable[Key]) -> list[bool]:
        """Begin the period of each object's lease anew; False for each that is gone or has none."""
        self._check_open()
        return self._leasing().renew([self._own(key) for key in keys])

    def exists(self, key: Key, **options: Any) -> bool:
        """Return whether an object lies under a key (in the channel; the cache is not asked)."""
        self._check_open()
        watch = self._watch("exists")
        key = self._own(key)
        found = self.connector.exists(key, **options)
        watch.stop(key)
        return found

    def is_cached(self, key: Key) -> bool:
        """Return whether this process has the object in its cache."""
        self._check_open()
        return self._own(key) in self._fetcher.cache

    def evict(self, key: Key, **options: Any) -> None:
        """Delete an object from the channel and from this process's cache; no error if it is gone.

        Objects already handed out stay valid; other processes' caches keep what they have.
        """
        self._check_open()
        watch = self._watch("evict")
        key = self._own(key)
        self.connector.evict(key, **options)
        self._fetcher.forget(key)
        watch.stop(key)

    def clear(self) -> int:
        """Delete every object of the channel's storage, whoever put it there; return how many.

        Raises:
            TypeError: the connector cannot list what it holds.
        """
        self._check_open()
        if not isinstance(self.connector, ListableConnector):
            raise TypeError(
                f"{type(self.connector).__name__} cannot list its objects; evict them by key"
            )
        gone = self.connector.clear()
        self._fetcher.clear()
        return gone

    # -- set once ------------------------------------------------------------------------------

    def _reserve(self, options: dict[str, Any]) -> Key:
        """Return a key that has no object yet.

        Raises:
            CapabilityError: the connector cannot do that, or cannot wait for the object.
        """
        self._check_open()
        connector: Any = self.connector
        for capability in (ReservingConnector, WaitingConnector):
            if not isinstance(connector, capability):
                raise CapabilityError(repr(connector), capability.__name__)
        key: Key = connector.reserve(**options)
        return key

    def _put_at(
        self, key: Key, obj: Any, serializer: codec.Serializer | None, options: dict[str, Any]
    ) -> bool:
        """Store an object under a reserved key; False if one is there already, which stays."""
        self._check_open()
        if options.get("lease") is not None:
            self._leasing()
        watch = self._watch("put_at")
        connector: Any = self.connector
        pieces = self._serializers.encode(obj, serializer)
        size = codec.size(pieces)
        watch.lap("encode", size)
        first: bool = connector.put_at(self._own(key), pieces, **options)
        watch.lap("connector.put", size)
        watch.stop(key, size)
        return first

    # -- closing -------------------------------------------------------------------------------

    def close(self) -> None:
        """Release connections, threads and the cache; idempotent; deletes no stored object."""
        if not self.closed:
            self.closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _release(self) -> None:
        self._fetcher.clear()
        self.connector.close()

    # -- for those who build on it -------------------------------------------------------------

    def _own(self, key: Any) -> Key:
        """Return `key` as this connector's key type; a plain tuple off the wire becomes one."""
        key_type = self.connector.key_type
        if type(key) is key_type:
            return key
        if type(key) in (tuple, list):
            try:
                own: Key = msgspec.convert(key, key_type)
                return own
            except msgspec.ValidationError:
                pass
        raise KeyTypeError(type(self.connector).__name__, key_type.__name__, key)

    def _leasing(self) -> LeasingConnector[Any]:
        if not isinstance(self.connector, LeasingConnector):
            raise CapabilityError(repr(self.connector), LeasingConnector.__name__)
        return self.connector

    def _with_lease(self, options: dict[str, Any], lease: float | None) -> None:
        if lease is not None:
            self._leasing()
            options["lease"] = lease

    def _watch(self, operation: str) -> Any:
        return UNMEASURED if self.metrics is None else self.metrics.watch(operation)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"store {self.name!r}")

    def _forked(self) -> None:
        if self.metrics is not None:
            self.metrics = StoreMetrics(self.metrics.max_objects)
        self._fetcher = self._fetcher.renewed(self.metrics)
