"""Stores: Python objects over a connector, and proxies of them.

>>> from isthmus.store import Store
>>> with Store() as store:
...     proxy = store.proxy([1, 2, 3], evict=True)
...     sum(proxy)
6
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.store import names
from isthmus.store.config import StoreConfig
from isthmus.store.factory import StoreFactory, factory_from_wire, proxy_from_wire
from isthmus.store.metrics import Metrics, Operation, StoreMetrics
from isthmus.store.names import get_store, register_store, unregister_store
from isthmus.store.store import Store

if TYPE_CHECKING:
    from isthmus.store.future import Future, future_from_wire
    from isthmus.store.ownership import (
        OwnedProxy,
        RefMutProxy,
        RefProxy,
        borrow,
        clone,
        drop,
        into_owned,
        mut_borrow,
        update,
    )

__all__ = [
    "Future",
    "Metrics",
    "Operation",
    "OwnedProxy",
    "RefMutProxy",
    "RefProxy",
    "Store",
    "StoreConfig",
    "StoreFactory",
    "StoreMetrics",
    "borrow",
    "clone",
    "drop",
    "factory_from_wire",
    "future_from_wire",
    "get_key",
    "get_or_create_store",
    "get_store",
    "into_owned",
    "mut_borrow",
    "proxy_from_wire",
    "register_store",
    "unregister_store",
    "update",
]


def get_or_create_store(config: StoreConfig | dict[str, Any], *, register: bool = True) -> Store:
    """Return this process's store of that name, or open one.

    Args:
        config: what ``Store.config()`` returned, or the same as a dictionary.
        register: give a store that is opened here its name.

    Raises:
        SpecError: a field of `config` is unknown, missing, or of the wrong type.
        NameTakenError: an open store has the name and another configuration.
    """
    if not isinstance(config, StoreConfig):
        config = StoreConfig.from_config(config)
    with names.opening():  # threads that ask together get one store
        store = get_store(config.name)
        if store is None:
            return Store.from_config(config, register=register)
    if (store.connector.kind, store.connector.config()) != (config.kind, config.options):
        from isthmus.errors import NameTakenError

        raise NameTakenError("store", config.name)
    return store


def get_key(proxy: Any) -> tuple[Any, ...]:
    """Return the key of a store's proxy, as its connector's type of key; does no I/O.

    Raises:
        TypeError: it is no proxy, or one that no store made.
    """
    from isthmus.proxy import get_factory, is_proxy

    factory = get_factory(proxy) if is_proxy(proxy) else None
    if not isinstance(factory, StoreFactory):
        raise TypeError(f"get_key takes a proxy made by a store, not {type(proxy).__name__}")
    key = factory.key
    if type(key) is not tuple:
        return key
    from isthmus.connectors import connectors  # off the wire, and nobody has opened the store yet

    key_type: Any = connectors.get(factory.config.kind).key_type
    typed: tuple[Any, ...] = key_type(*key)
    return typed


def __getattr__(name: str) -> Any:
    if name in ("Future", "future_from_wire"):
        from isthmus.store import future  # it needs concurrent.futures, most users do not

        return getattr(future, name)
    if name in __all__:  # all else is there by now; what nobody owns needs no upkeep
        from isthmus.store import ownership

        return getattr(ownership, name)
    raise AttributeError(f"module 'isthmus.store' has no attribute {name!r}")
