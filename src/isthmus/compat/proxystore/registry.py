"""Stores by name: isthmus's own registry, seen through adaptors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from isthmus import store
from isthmus.compat.proxystore.store import Store
from isthmus.connectors import connectors
from isthmus.proxy import get_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.compat.proxystore.config import StoreConfig

__all__ = [
    "get_key",
    "get_or_create_store",
    "get_store",
    "register_store",
    "store_registration",
    "unregister_store",
]


def get_store(val: str | Any) -> Store[Any] | None:
    """Return a store by its name, or the one that made a proxy; None if there is none of the name."""
    found = store.get_store(val)
    return None if found is None else Store.over(found)


def get_or_create_store(store_config: StoreConfig, *, register: bool = True) -> Store[Any]:
    """Return this process's store of that name, or open one."""
    found = get_store(store_config.name)
    if found is None:
        found = Store.from_config(store_config)
        if register:
            register_store(found, exist_ok=True)
    return found


def register_store(store_: Store[Any], exist_ok: bool = False) -> None:
    """Give a store its name in this process.

    Raises:
        StoreExistsError: another store has the name, and `exist_ok` is false. (Ours is ``NameTakenError``.)
    """
    store.register_store(_own(store_), exist_ok)


def unregister_store(name_or_store: str | Store[Any]) -> None:
    """Take a store's name away; closes nothing."""
    given = name_or_store
    store.unregister_store(given if isinstance(given, str) else _own(given))


@contextlib.contextmanager
def store_registration(*stores: Store[Any], exist_ok: bool = False) -> Iterator[None]:
    """Register stores for the length of a block."""
    with contextlib.ExitStack() as stack:
        for one in stores:
            register_store(one, exist_ok)
            stack.callback(unregister_store, one)
        yield


def get_key(proxy: Any) -> tuple[Any, ...]:
    """Return the key of a store's proxy, of its connector's type of key; does no I/O."""
    key = store.get_key(proxy)
    if type(key) is tuple:  # off the wire: nobody has opened the store yet
        factory: Any = get_factory(proxy)
        key_type: Any = connectors.get(factory.config.kind).key_type
        key = key_type(*key)
    return key


def _own(given: Any) -> store.Store:
    own: store.Store = given.store if isinstance(given, Store) else given
    return own
