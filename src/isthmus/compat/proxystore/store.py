"""A store with ProxyStore's methods and arguments, over one of isthmus's."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from isthmus import codec, store
from isthmus.compat.proxystore.connectors import Clearing
from isthmus.compat.proxystore.locker import ProxyLocker
from isthmus.compat.proxystore.metrics import StoreMetrics
from isthmus.compat.proxystore.populated import populated
from isthmus.compat.proxystore.routing import native_tags
from isthmus.connectors import ListableConnector
from isthmus.errors import NotProxiableError
from isthmus.store import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Self

    from isthmus.codec import Deserializer, Serializer
    from isthmus.compat.proxystore.config import StoreConfig
    from isthmus.connectors import Connector
    from isthmus.proxy import Proxy

__all__ = ["Store"]

T = TypeVar("T")
C = TypeVar("C")
Key = tuple[Any, ...]

_VIEW = "_proxystore_view"


class Store(Generic[C]):
    """Keeps objects in a channel and hands out proxies of them.

    What it does not define itself it has from the store of isthmus below, :attr:`store`.

    Args:
        name: the store's; made up if None.
        connector: the channel; None for shared memory of this host.
        serializer: turns an object into bytes.
        deserializer: its inverse.
        cache_size: objects kept after deserialization.
        metrics: count and time operations.
        populate_target: whether a proxy made here has its target here at once, without a fetch; one that
            has a deserializer of its own never does, because that may make something else.
        register: give the store its name in this process.

    Raises:
        StoreExistsError: `register` is true and another store has the name.
    """

    def __init__(
        self,
        name: str | None = None,
        connector: Connector[Any] | None = None,
        *,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        cache_size: int = 16,
        metrics: bool = False,
        populate_target: bool = True,
        register: bool = False,
    ) -> None:
        own = store.Store(
            name,
            connector,
            serializer=serializer,
            deserializer=deserializer,
            cache_size=cache_size,
            metrics=metrics,
            register=register,
        )
        self._stand_over(own, populate_target, register)

    def _stand_over(self, own: store.Store, populate_target: bool, register: bool) -> None:
        self.store = own
        """The store of isthmus below."""
        self.populate_target = populate_target
        self._auto_register = register
        # On the store below, so that whoever finds that one finds this one. Weakly, or the two would
        # wait for the garbage collector; but who has a name may be forgotten by all but the registry.
        vars(own)[_VIEW] = weakref.ref(self)
        if register:
            self.keep(True)

    def keep(self, kept: bool) -> None:
        """Let this adaptor live as long as the store below, or only as long as somebody has it."""
        vars(self.store)[_VIEW] = (lambda: self) if kept else weakref.ref(self)

    @classmethod
    def over(cls, own: store.Store) -> Store[Any]:
        """Return the adaptor of a store of isthmus, always the same."""
        with names.opening():  # threads that ask together get one
            known: Callable[[], Store[Any] | None] | None = vars(own).get(_VIEW)
            view = known and known()
            if view is None:
                view = Store.__new__(Store)
                view._stand_over(own, True, False)
            return view

    # -- configuration -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The store's name."""
        return self.store.name

    @property
    def connector(self) -> C:
        """The channel."""
        return self.store.connector  # type: ignore[return-value]

    @property
    def metrics(self) -> StoreMetrics | None:
        """Metrics of this process, None unless asked for."""
        own = self.store.metrics
        return None if own is None else StoreMetrics(own)

    def config(self) -> StoreConfig:
        """Return what another process needs to open this store: a pydantic model."""
        from isthmus.compat.proxystore.config import StoreConfig

        return StoreConfig.of(
            self.store.config(),
            populate_target=self.populate_target,
            auto_register=self._auto_register,
        )

    @classmethod
    def from_config(cls, config: StoreConfig) -> Self:
        """Open a store, and register it if its configuration says so."""
        own = config.native()
        native = store.Store(
            own.name,
            config.connector.get_connector(),
            serializer=_loaded(own.serializer),
            deserializer=_loaded(own.deserializer),
            cache_size=own.cache_size,
            cache_bytes=own.cache_bytes,
            metrics=own.metrics,
        )
        self = cls.__new__(cls)
        self._stand_over(native, config.populate_target, config.auto_register)
        if config.auto_register:
            store.register_store(native, exist_ok=True)
        return self

    # -- objects -------------------------------------------------------------------------------

    def put(
        self,
        obj: Any,
        *,
        lifetime: Any = None,
        serializer: Serializer | None = None,
        **options: Any,
    ) -> Key:
        """Store an object and return its key; `lifetime` gets it, `options` go to the connector."""
        key = self.store.put(obj, serializer=serializer, **self._options(options))
        self._attach(lifetime, [key])
        return key

    def put_batch(
        self,
        objs: Sequence[Any],
        *,
        lifetime: Any = None,
        serializer: Serializer | None = None,
        **options: Any,
    ) -> list[Key]:
        """Store several objects in one operation of the channel, where it has one."""
        keys = self.store.put_batch(objs, serializer=serializer, **self._options(options))
        self._attach(lifetime, keys)
        return keys

    def get(
        self, key: Key, *, deserializer: Deserializer | None = None, default: Any = None
    ) -> Any:
        """Return the object under a key, or `default`."""
        return self.store.get(key, default, deserializer=deserializer)

    def is_cached(self, key: Key) -> bool:
        """Return whether a `get` would find the object in this process."""
        return self.store.is_cached(key)

    # -- proxies -------------------------------------------------------------------------------

    def proxy(
        self,
        obj: T,
        evict: bool = False,
        *,
        cache_defaults: bool = False,
        lifetime: Any = None,
        populate_target: bool | None = None,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        skip_nonproxiable: bool = False,
        **options: Any,
    ) -> Any:
        """Store an object and return a proxy of it.

        Args:
            obj: the object.
            evict: delete the stored object when a proxy of it is first resolved.
            cache_defaults: has no effect: a proxy always knows its target's class.
            lifetime: what deletes the object at its end.
            populate_target: as the store's, for this proxy.
            serializer: used for this object alone.
            deserializer: travels with the proxy.
            skip_nonproxiable: return None, True and False as they are in place of raising.
            **options: handed to the connector's ``put``.

        Raises:
            NonProxiableTypeError: `obj` is None or a bool. (Ours is ``NotProxiableError``.)
            ValueError: both `evict` and `lifetime` are given.
        """
        if not _proxiable(obj):
            if skip_nonproxiable:
                return obj
            raise NotProxiableError(obj)
        _one_owner(evict, lifetime)
        made = self.store.proxy(
            obj,
            evict=evict,
            serializer=serializer,
            deserializer=deserializer,
            **self._options(options),
        )
        self._attach(lifetime, [store.get_key(made)])
        return self._finished(made, obj, deserializer, populate_target)

    def proxy_batch(
        self,
        objs: Iterable[Any],
        evict: bool = False,
        *,
        cache_defaults: bool = False,
        lifetime: Any = None,
        populate_target: bool | None = None,
        serializer: Serializer | None = None,
        deserializer: Deserializer | None = None,
        skip_nonproxiable: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Store several objects in one operation of the channel and return a proxy of each.

        Arguments and errors are those of :meth:`proxy`.
        """
        result = list(objs)
        places = [at for at, obj in enumerate(result) if _proxiable(obj)]
        if len(places) < len(result) and not skip_nonproxiable:
            raise NotProxiableError(next(obj for obj in result if not _proxiable(obj)))
        _one_owner(evict, lifetime)
        chosen = [result[at] for at in places]
        made = self.store.proxy_batch(
            chosen,
            evict=evict,
            serializer=serializer,
            deserializer=deserializer,
            **self._options(options),
        )
        self._attach(lifetime, [store.get_key(proxy) for proxy in made])
        for at, proxy, obj in zip(places, made, chosen, strict=True):
            result[at] = self._finished(proxy, obj, deserializer, populate_target)
        return result

    def proxy_from_key(
        self,
        key: Key,
        evict: bool = False,
        *,
        deserializer: Deserializer | None = None,
        lifetime: Any = None,
    ) -> Proxy[Any]:
        """Return a proxy of an object that is stored already."""
        _one_owner(evict, lifetime)
        self._attach(lifetime, [key])
        return self.store.proxy_from_key(key, evict=evict, deserializer=deserializer)

    def locked_proxy(self, obj: T, evict: bool = False, **options: Any) -> Any:
        """Return :meth:`proxy`'s proxy in a :class:`ProxyLocker`; what is no proxy, as it is."""
        made = self.proxy(obj, evict, **options)
        return ProxyLocker(made) if _proxiable(obj) else made

    def _finished(
        self, made: Proxy[Any], obj: Any, deserializer: Any, populate_target: bool | None
    ) -> Proxy[Any]:
        """Return the proxy of an object as it was asked for."""
        wanted = self.populate_target if populate_target is None else populate_target
        if not wanted or deserializer is not None:  # what that makes may be something else
            return made
        return populated(made, obj)

    # -- closing -------------------------------------------------------------------------------

    def close(self, clear: bool | None = None) -> None:
        """Release what the store holds; idempotent.

        Args:
            clear: delete the channel's objects, or not, in place of what its connector was told.
        """
        connector = self.store.connector
        try:
            if isinstance(connector, Clearing):
                connector.close(clear)
            elif clear and not self.store.closed and isinstance(connector, ListableConnector):
                connector.clear()
        finally:
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _over, (self.store,)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of isthmus.compat over {self.store!r}>"

    def __getattr__(self, name: str) -> Any:
        if name == "store":  # not made yet
            raise AttributeError(name)
        return getattr(self.store, name)

    def _options(self, options: dict[str, Any]) -> dict[str, Any]:
        return native_tags(self.store.connector, options)

    def _attach(self, lifetime: Any, keys: Sequence[Key]) -> None:
        if lifetime is not None:
            lifetime.add_key(*keys, store=self)


def _loaded(packed: str | None) -> Any:
    return None if packed is None else codec.load_callable(packed)


def _over(own: store.Store) -> Store[Any]:
    return Store.over(own)


def _proxiable(obj: object) -> bool:
    # What programs compare with `is`, which no proxy can answer.
    return obj is not None and not isinstance(obj, bool)


def _one_owner(evict: bool, lifetime: Any) -> None:
    if evict and lifetime is not None:
        raise ValueError("evict and lifetime both delete the object; give one of them")
