"""The store: Python objects over a connector, and proxies of them."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from isthmus import codec
from isthmus.connectors import HoldingConnector, ListableConnector, TypedConnector, connectors
from isthmus.connectors.forking import renew_after_fork
from isthmus.errors import ClosedError, KeyTypeError
from isthmus.proxy import Proxy, TargetClass
from isthmus.store import names
from isthmus.store.cache import Cache
from isthmus.store.config import DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE, StoreConfig, unpack
from isthmus.store.factory import StoreFactory
from isthmus.store.flight import SingleFlight
from isthmus.store.metrics import UNMEASURED, StoreMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import Self

    from isthmus.codec import Buffer
    from isthmus.connectors import Connector

__all__ = ["RESOLVE_THREADS", "Store"]

T = TypeVar("T")
Key = tuple[Any, ...]

RESOLVE_THREADS = 16
"""Fetches that a store runs at once in the background: they wait on a channel more than they compute."""

_HOST = socket.gethostname()[:32]


class Store:
    """Keeps Python objects in a mediated channel and hands out proxies of them.

    Any process that gets a proxy reaches the object: the proxy carries the store's name and its
    connector's specification, and opens the store where it is not open yet (dissertation, 3.2.5).

    Args:
        name: names the store in this process and in error messages; made up if None.
        connector: the channel. None for shared memory of this host, in a space named like the store,
            which spills to files when it is full.
        serializer: turns an object into bytes (or a list of buffers) in place of the codec.
        deserializer: its inverse; gets what the connector returns, a bytes-like object.
        cache_size: objects kept after deserialization and shared by all who get them; 0 gives every
            caller an object of its own.
        cache_bytes: bound on the serialized size of the cached objects together, None for no bound.
        metrics: count and time operations, see :attr:`metrics`.
        register: give the store its name in this process (:func:`register_store`).

    Raises:
        NameTakenError: `register` is true and another store has the name.
        TypeError: `connector` is not a connector.

    Threads may share a store. No lock is held while an object is fetched or stored, and threads that
    ask for one key at once fetch it once. After a fork the child goes on with connections of its own.
    """

    _MISSING: Any = type("Missing", (), {"__repr__": lambda self: "<missing>"})()

    def __init__(
        self,
        name: str | None = None,
        connector: Connector[Any] | None = None,
        *,
        serializer: codec.Serializer | None = None,
        deserializer: codec.Deserializer | None = None,
        cache_size: int = DEFAULT_CACHE_SIZE,
        cache_bytes: int | None = DEFAULT_CACHE_BYTES,
        metrics: bool = False,
        register: bool = False,
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise TypeError(
                f"a store's first argument is its name, not {type(name).__name__}: Store('name', connector)"
            )
        self.name = name or f"store-{os.urandom(4).hex()}"
        if connector is None:
            from isthmus.connectors.shm import SharedMemoryConnector

            connector = SharedMemoryConnector(self.name)
        for method in ("put", "get", "evict", "exists", "spec"):
            if not hasattr(connector, method):
                raise TypeError(
                    f"{connector!r} is not a connector: it has no {method!r} (see isthmus.connectors)"
                )
        self.connector: Connector[Any] = connector
        self._serializer = serializer
        self._deserializer = deserializer
        self.metrics = StoreMetrics() if metrics else None
        """Metrics of this process, None unless asked for."""
        self._holds = (
            connector
            if isinstance(connector, HoldingConnector)
            and serializer is None
            and deserializer is None
            else None
        )
        self._tells_type = isinstance(connector, TypedConnector) and connector.takes_type
        self._cache = Cache(cache_size, cache_bytes)
        self._flights: SingleFlight[Any] = SingleFlight()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_lock = threading.Lock()
        self.closed = False
        self._identity = self.config().pack()
        renew_after_fork(self)
        names.know(self._identity, self)
        if register:
            names.register_store(self)

    # -- configuration -------------------------------------------------------------------------

    def config(self) -> StoreConfig:
        """Return what another process needs to open this store; secrets stay behind."""
        return StoreConfig(
            name=self.name,
            kind=self.connector.kind,
            options=self.connector.config(),
            cache_size=self._cache.max_count,
            cache_bytes=self._cache.max_bytes,
            metrics=self.metrics is not None,
            serializer=None if self._serializer is None else codec.pack_callable(self._serializer),
            deserializer=None
            if self._deserializer is None
            else codec.pack_callable(self._deserializer),
        )

    @classmethod
    def from_config(cls, config: StoreConfig | dict[str, Any], *, register: bool = False) -> Self:
        """Open a store from what :meth:`config` returned, or from the same as a dictionary (TOML).

        Raises:
            SpecError: a field is unknown, missing, or of the wrong type.
            UnknownKindError: no connector is of this kind.
        """
        if not isinstance(config, StoreConfig):
            config = StoreConfig.from_config(config)
        return cls(
            config.name,
            connectors.get(config.kind).from_config(config.options),
            serializer=None
            if config.serializer is None
            else codec.load_callable(config.serializer),
            deserializer=(
                None if config.deserializer is None else codec.load_callable(config.deserializer)
            ),
            cache_size=config.cache_size,
            cache_bytes=config.cache_bytes,
            metrics=config.metrics,
            register=register,
        )

    # -- objects -------------------------------------------------------------------------------

    def put(self, obj: Any, *, serializer: codec.Serializer | None = None, **options: Any) -> Key:
        """Store an object and return its key.

        Args:
            obj: any object that the serializer takes.
            serializer: used for this object alone.
            **options: handed to the connector's ``put``.

        Raises:
            CodecError: the object cannot be serialized.
            FullError: there is no room for it.
        """
        self._check_open()
        watch = self._watch("put")
        if self._holds is not None and serializer is None:
            held: Key | None = self._holds.put_object(obj, **options)
            if held is not None:
                watch.stop(held)
                return held
        if self._tells_type:
            options.setdefault("of", type(obj))
        pieces = self._encode(obj, serializer)
        size = codec.size(pieces)
        watch.lap("encode", size)
        key: Key = self.connector.put(pieces, **options)
        watch.lap("connector.put", size)
        watch.stop(key, size)
        return key

    def put_batch(
        self, objs: Iterable[Any], *, serializer: codec.Serializer | None = None, **options: Any
    ) -> list[Key]:
        """Store several objects in one operation of the channel, where it has one; see :meth:`put`."""
        self._check_open()
        watch = self._watch("put_batch")
        if self._tells_type:
            objs = list(objs)
            options.setdefault("of", [type(obj) for obj in objs])
        payloads = [self._encode(obj, serializer) for obj in objs]
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
        key = self._own(key)
        if deserializer is not None or self._cache.max_count == 0:
            found = self._fetch(key, deserializer, options)[0]
        else:
            found = self._get_cached(key, options)
        return default if found is self._MISSING else found

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
        watch = self._watch("get_batch")
        keys = [self._own(key) for key in keys]
        cache = self._cache if deserializer is None else Cache(0)
        found = {key: cache.get(key, self._MISSING) for key in keys}
        wanted = [key for key, obj in found.items() if obj is self._MISSING]
        size = 0
        if wanted:
            with cache.coming(wanted) as fresh:
                payloads = self.connector.get_batch(wanted, **options)
                size = sum(len(data) for data in payloads if data is not None)
                watch.lap("connector.get", size)
                for key, data in zip(wanted, payloads, strict=True):
                    if data is not None:
                        obj = found[key] = self._decode(data, deserializer)
                        cache.put(key, obj, len(data), fresh)
            watch.lap("decode", size)
        watch.stop(None, size)
        return [default if found[key] is self._MISSING else found[key] for key in keys]

    def exists(self, key: Key, **options: Any) -> bool:
        """Return whether an object lies under a key (in the channel; the cache is not asked)."""
        self._check_open()
        watch = self._watch("exists")
        key = self._own(key)
        found = self.connector.exists(key, **options)
        watch.stop(key)
        return found

    def evict(self, key: Key, **options: Any) -> None:
        """Delete an object from the channel and from this process's cache; no error if it is gone.

        Objects already handed out stay valid; other processes' caches keep what they have.
        """
        self._check_open()
        watch = self._watch("evict")
        key = self._own(key)
        self.connector.evict(key, **options)
        self._forget(key)
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
        self._flights.clear()
        self._cache.clear()
        return gone

    # -- proxies -------------------------------------------------------------------------------

    def proxy(
        self,
        obj: T,
        *,
        evict: bool = False,
        serializer: codec.Serializer | None = None,
        deserializer: codec.Deserializer | None = None,
        **options: Any,
    ) -> Proxy[T]:
        """Store an object and return a proxy of it.

        Args:
            obj: any object that the serializer takes.
            evict: delete the stored object when a proxy of it is first resolved.
            serializer: used for this object alone.
            deserializer: travels with the proxy and is used wherever it is resolved.
            **options: handed to the connector's ``put``.

        Raises:
            CodecError: the object cannot be serialized.
            FullError: there is no room for it.
        """
        watch = self._watch("proxy")
        key = self.put(obj, serializer=serializer, **options)
        proxy = self._proxy_of(key, evict, deserializer, TargetClass.of(obj))
        watch.stop(key)
        return proxy

    def proxy_batch(
        self,
        objs: Iterable[T],
        *,
        evict: bool = False,
        serializer: codec.Serializer | None = None,
        deserializer: codec.Deserializer | None = None,
        **options: Any,
    ) -> list[Proxy[T]]:
        """Store several objects in one operation of the channel and return a proxy of each."""
        objs = list(objs)
        keys = self.put_batch(objs, serializer=serializer, **options)
        return [
            self._proxy_of(key, evict, deserializer, TargetClass.of(obj))
            for key, obj in zip(keys, objs, strict=True)
        ]

    def proxy_from_key(
        self,
        key: Key,
        *,
        evict: bool = False,
        deserializer: codec.Deserializer | None = None,
    ) -> Proxy[Any]:
        """Return a proxy of an object that is stored already; does no I/O.

        Nothing is known of the object's class, so a question about it resolves the proxy.
        """
        self._check_open()
        return self._proxy_of(self._own(key), evict, deserializer, None)

    def _proxy_of(
        self,
        key: Key,
        evict: bool,
        deserializer: codec.Deserializer | None,
        about: TargetClass | None,
    ) -> Proxy[Any]:
        made = (int(time.time()), _HOST)
        factory = StoreFactory[Any](
            self._identity, key, evict=evict, deserializer=deserializer, made=made, store=self
        )
        return Proxy(factory, about)

    def _resolve(self, key: Key, deserializer: codec.Deserializer | None, evict: bool) -> Any:
        """Return a proxy's target, :attr:`_MISSING` if there is none; evict it if asked to."""
        watch = self._watch("resolve")
        key = self._own(key)
        if evict or deserializer is not None or self._cache.max_count == 0:
            # Whoever evicts takes the only copy: nobody will ask the cache for it.
            found = (
                self._cache.get(key, self._MISSING)
                if evict and deserializer is None
                else self._MISSING
            )
            if found is self._MISSING:
                found = self._fetch(key, deserializer, {})[0]
            if evict and found is not self._MISSING:
                self.connector.evict(key)
                self._forget(key)
        else:
            found = self._get_cached(key, {})
        watch.stop(key)
        return found

    # -- closing -------------------------------------------------------------------------------

    def close(self) -> None:
        """Release connections, threads and the cache; idempotent; deletes no stored object."""
        if self.closed:
            return
        self.closed = True
        names.forget(self)
        with self._pool_lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self._cache.clear()
        self.connector.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        # A store travels as what opens it: the receiver finds the one it has open, or opens one.
        return reopen, (self._identity,)

    def __repr__(self) -> str:
        state = "closed " if self.closed else ""
        return f"<{state}Store {self.name!r} over {self.connector!r}>"

    # -- layers --------------------------------------------------------------------------------

    def _encode(self, obj: Any, serializer: codec.Serializer | None) -> list[Buffer]:
        serializer = serializer or self._serializer
        if serializer is None:
            return codec.encode(obj)
        data = serializer(obj)
        if isinstance(data, list):
            return data
        if isinstance(data, bytes | bytearray | memoryview):
            return [data]
        raise TypeError(
            f"serializer {getattr(serializer, '__qualname__', serializer)} returned {type(data).__name__}, "
            "not bytes or a list of buffers"
        )

    def _decode(self, data: Buffer, deserializer: codec.Deserializer | None) -> Any:
        return (deserializer or self._deserializer or codec.decode)(data)

    def _fetch(
        self, key: Key, deserializer: codec.Deserializer | None, options: dict[str, Any]
    ) -> tuple[Any, int]:
        """Return the object and its size in bytes, from the channel."""
        watch = self._watch("get")
        if self._holds is not None and deserializer is None:
            held = self._holds.get_object(key, self._MISSING)
            if held is not self._MISSING:
                watch.stop(key)
                return held, 0
        data = self.connector.get(key, **options)
        if data is None:
            watch.stop(key)
            return self._MISSING, 0
        size = len(data)
        watch.lap("connector.get", size)
        obj = self._decode(data, deserializer)
        watch.lap("decode", size)
        watch.stop(key, size)
        return obj, size

    def _get_cached(self, key: Key, options: dict[str, Any]) -> Any:
        found = self._cache.get(key, self._MISSING)
        if self.metrics is not None:
            self.metrics.count("cache.miss" if found is self._MISSING else "cache.hit", key)
        if found is not self._MISSING:
            return found

        def fetch() -> Any:
            # Another thread may have landed this object between our look-up and our flight.
            again = self._cache.get(key, self._MISSING)
            if again is not self._MISSING:
                return again
            with self._cache.coming([key]) as fresh:
                obj, size = self._fetch(key, None, options)
                if obj is not self._MISSING:
                    self._cache.put(key, obj, size, fresh)
            return obj

        return self._flights.run(key, fetch)

    def _forget(self, key: Key) -> None:
        """Let nobody here get an object that the channel no longer has, nor one that is on its way."""
        self._flights.forget(key)
        self._cache.evict(key)

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

    def _watch(self, operation: str) -> Any:
        return UNMEASURED if self.metrics is None else self.metrics.watch(operation)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"store {self.name!r}")

    def _in_background(self, fetch: Callable[[], T]) -> Future[T]:
        """Run a fetch in this store's pool of at most :data:`RESOLVE_THREADS` threads."""
        with self._pool_lock:
            self._check_open()
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(RESOLVE_THREADS, f"isthmus-resolve-{self.name}")
            return self._pool.submit(fetch)

    def _forked(self) -> None:
        # Threads of the parent are gone, and with them whoever held a lock or flew a fetch.
        self._cache = Cache(self._cache.max_count, self._cache.max_bytes)
        self._flights = SingleFlight()
        self._pool = None
        self._pool_lock = threading.Lock()
        if self.metrics is not None:
            self.metrics = StoreMetrics(self.metrics.max_objects)


def reopen(identity: bytes) -> Store:
    """Return this process's store of a configuration in msgpack, opened if need be.

    Raises:
        SpecError: the bytes are no store's configuration.
    """
    return names.find(identity, lambda: Store.from_config(unpack(identity)))
