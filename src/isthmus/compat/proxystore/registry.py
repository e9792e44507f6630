"""Stores by name: isthmus's own registry, seen through adaptors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from isthmus import store
from isthmus.compat.proxystore.store import Store
from isthmus.proxy import is_proxy
from isthmus.store import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.compat.proxystore.config import StoreConfig

__all__ = [
    "get_or_create_store",
    "get_store",
    "register_store",
    "store_registration",
    "unregister_store",
]


def get_store(val: str | Any) -> Store[Any] | None:
    """Return the store registered by a name, or the one that made a proxy; None if there is none."""
    found = store.get_store(val) if is_proxy(val) else names.registered(val)
    return None if found is None else Store.over(found)


def get_or_create_store(store_config: StoreConfig, *, register: bool = True) -> Store[Any]:
    """Return this process's store of that name, or open one."""
    with names.opening():  # threads that ask together get one store
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
    if isinstance(store_, Store):
        store_.keep(True)


def unregister_store(name_or_store: str | Store[Any]) -> None:
    """Take a store's name away; closes nothing."""
    given = get_store(name_or_store) if isinstance(name_or_store, str) else name_or_store
    if given is not None:
        store.unregister_store(_own(given))
        if isinstance(given, Store):
            given.keep(False)


@contextlib.contextmanager
def store_registration(*stores: Store[Any], exist_ok: bool = False) -> Iterator[None]:
    """Register stores for the length of a block."""
    with contextlib.ExitStack() as stack:
        for one in stores:
            register_store(one, exist_ok)
            stack.callback(unregister_store, one)
        yield


def _own(given: Any) -> store.Store:
    own: store.Store = given.store if isinstance(given, Store) else given
    return own
