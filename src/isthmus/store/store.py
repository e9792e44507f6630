"""The store: Python objects over a connector, and proxies of them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus import codec
from isthmus.connectors import connectors
from isthmus.proxy import Proxy, TargetClass
from isthmus.store import names
from isthmus.store.background import Background
from isthmus.store.cache import Cache
from isthmus.store.config import (
    DEFAULT_CACHE_BYTES,
    DEFAULT_CACHE_SIZE,
    LEASE_SECONDS,
    StoreConfig,
    unpack,
)
from isthmus.store.factory import StoreFactory, made
from isthmus.store.objects import Key, Objects
from isthmus.store.serializers import Serializers
from isthmus.store.waiter import Waiter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from isthmus.connectors import Connector
    from isthmus.store.future import Future
    from isthmus.store.lifetime import Lifetime
    from isthmus.store.ownership import OwnedProxy

__all__ = ["Store"]

T = TypeVar("T")


class Store(Objects):
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
        name = name or f"store-{os.urandom(4).hex()}"
        if connector is None:
            from isthmus.connectors.shm import SharedMemoryConnector

            connector = SharedMemoryConnector(name)
        for method in ("put", "get", "evict", "exists", "spec"):
            if not hasattr(connector, method):
                raise TypeError(
                    f"{connector!r} is not a connector: it has no {method!r} (see isthmus.connectors)"
                )
        super().__init__(
            name,
            connector,
            Serializers(serializer, deserializer),
            Cache(cache_size, cache_bytes),
            metrics=metrics,
        )
        self._background = Background(name)
        self._waiter = Waiter(connector, name)
        self._identity = self.config().pack()
        names.know(self._identity, self)
        if register:
            names.register_store(self)

    # -- configuration -------------------------------------------------------------------------

    def config(self) -> StoreConfig:
        """Return what another process needs to open this store; secrets stay behind."""
        cache = self._fetcher.cache
        serializer, deserializer = self._serializers.serializer, self._serializers.deserializer
        return StoreConfig(
            name=self.name,
            kind=self.connector.kind,
            options=self.connector.config(),
            cache_size=cache.max_count,
            cache_bytes=cache.max_bytes,
            metrics=self.metrics is not None,
            serializer=None if serializer is None else codec.pack_callable(serializer),
            deserializer=None if deserializer is None else codec.pack_callable(deserializer),
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

    # -- proxies -------------------------------------------------------------------------------

    def proxy(
        self,
        obj: T,
        *,
        evict: bool = False,
        serializer: codec.Serializer | None = None,
        deserializer: codec.Deserializer | None = None,
        lease: float | None = None,
        lifetime: Lifetime | None = None,
        **options: Any,
    ) -> Proxy[T]:
        """Store an object and return a proxy of it.

        Args:
            obj: any object that the serializer takes.
            evict: delete the stored object when a proxy of it is first resolved.
            serializer: used for this object alone.
            deserializer: travels with the proxy and is used wherever it is resolved. What it makes may be
                of another class than `obj`, so a question about the class resolves the proxy.
            lease: seconds that the object is kept unless its lease is renewed, see :meth:`put`.
            lifetime: evicts the object when it ends, see :meth:`put`.
            **options: handed to the connector's ``put``.

        Raises:
            CodecError: the object cannot be serialized.
            FullError: there is no room for it.
        """
        watch = self._watch("proxy")
        key = self.put(obj, serializer=serializer, lease=lease, lifetime=lifetime, **options)
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
        lease: float | None = None,
        lifetime: Lifetime | None = None,
        **options: Any,
    ) -> list[Proxy[T]]:
        """Store several objects in one operation of the channel and return a proxy of each."""
        objs = list(objs)
        keys = self.put_batch(
            objs, serializer=serializer, lease=lease, lifetime=lifetime, **options
        )
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

    def owned_proxy(
        self,
        obj: T,
        *,
        serializer: codec.Serializer | None = None,
        deserializer: codec.Deserializer | None = None,
        lease: float | None = LEASE_SECONDS,
        lifetime: Lifetime | None = None,
        **options: Any,
    ) -> OwnedProxy[T]:
        """Store an object and return its owner: a proxy with which the object goes.

        See :mod:`isthmus.store.ownership` for what it can do and what it refuses.

        Args:
            obj: any object that the serializer takes.
            serializer: used for this object alone.
            deserializer: its inverse; travels with the handle, as with :meth:`proxy`.
            lease: seconds after which the object goes if this process is killed; renewed while the proxy
                lives. None for no lease, and without effect where the connector gives none.
            lifetime: drops the owner when it ends, unless somebody else owns the object by then.
            **options: handed to the connector's ``put``.

        Raises:
            LifetimeEndedError: the lifetime has ended; nothing stays stored.
        """
        from isthmus.store.ownership import drop, own

        owned = own(self, obj, serializer, deserializer, lease, options)
        if lifetime is not None:
            try:
                lifetime.add_proxy(owned)
            except BaseException:
                drop(owned)
                raise
        return owned

    def future(
        self,
        cls: type[T] | None = None,
        *,
        timeout: float | None = None,
        lease: float | None = None,
        lifetime: Lifetime | None = None,
        **options: Any,
    ) -> Future[T]:
        """Return a future of an object that somebody will store; does no I/O.

        Args:
            cls: the class that the result will have, if it is known: what the future's proxies answer
                when they are asked for it.
            timeout: seconds that its proxies and whoever awaits it wait before they give up, unless
                they say otherwise; None to wait for ever. See :class:`~isthmus.store.future.Future`.
            lease: seconds that the result is kept from when it is set, whoever sets it, unless its lease
                is renewed, see :meth:`put`.
            lifetime: evicts the result when it ends, see :meth:`put`. What is set after that stays, unless
                it has a lease: those that end by themselves give it one.
            **options: handed to the connector's ``reserve``.

        Raises:
            CapabilityError: the connector cannot reserve a key, or cannot wait, or gives no leases.
            LifetimeEndedError: the lifetime has ended.
        """
        from isthmus.store.awaiting import AwaitingFactory
        from isthmus.store.future import Future

        if cls is not None and self._tells_type:
            options.setdefault("of", cls)
        key = self._reserve(options)
        if lease is not None:
            self._leasing()
        if lifetime is not None:
            from isthmus.store.lifetime.protocol import reserve_under

            lease = reserve_under(lifetime, self, key, lease)
        about = None if cls is None else TargetClass.of(cls)
        factory = AwaitingFactory[T](
            self._identity, key, made=made(), store=self, timeout=timeout, lease=lease
        )
        return Future(factory, about)

    def _proxy_of(
        self,
        key: Key,
        evict: bool,
        deserializer: codec.Deserializer | None,
        about: TargetClass | None,
    ) -> Proxy[Any]:
        factory = StoreFactory[Any](
            self._identity, key, evict=evict, deserializer=deserializer, made=made(), store=self
        )
        return Proxy(factory, about if deserializer is None else None)

    def _resolve(self, key: Key, deserializer: codec.Deserializer | None, evict: bool) -> Any:
        """Return a proxy's target, ``MISSING`` if there is none; evict it if asked to."""
        watch = self._watch("resolve")
        key = self._own(key)
        if evict:
            found = self._fetcher.take(key, deserializer)
        else:
            found = self._fetcher.get(key, deserializer, {})
        watch.stop(key)
        return found

    # -- closing and travelling ------------------------------------------------------------------

    def _release(self) -> None:
        names.forget(self)
        self._waiter.close()
        self._background.close()
        super()._release()

    def _forked(self) -> None:
        super()._forked()
        self._background = Background(self.name)
        self._waiter = Waiter(self.connector, self.name)

    def __reduce__(self) -> tuple[Any, ...]:
        # A store travels as what opens it: the receiver finds the one it has open, or opens one.
        return reopen, (self._identity,)

    def __repr__(self) -> str:
        state = "closed " if self.closed else ""
        return f"<{state}Store {self.name!r} over {self.connector!r}>"


def reopen(identity: bytes) -> Store:
    """Return this process's store of a configuration in msgpack, opened if need be.

    Raises:
        SpecError: the bytes are no store's configuration.
    """
    return names.find(identity, lambda: Store.from_config(unpack(identity)))
