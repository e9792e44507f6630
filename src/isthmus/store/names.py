"""The stores of this process, by name and by configuration.

A store is *registered* when somebody asks for that: its name is then its own. A store that is merely
open is *known* as long as it lives, so that a proxy which comes back to the process that made it finds
that store, with its cache and connections, rather than opening a second one.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from isthmus.errors import NameTakenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from isthmus.store.store import Store

__all__ = ["find", "get_store", "known", "register_store", "unregister_store"]

_registered: dict[str, Store] = {}
_known: weakref.WeakValueDictionary[bytes, Store] = weakref.WeakValueDictionary()
# Opened for a proxy under a name that another store has here: kept until closed.
_unnamed: dict[bytes, Store] = {}
_lock = threading.RLock()


def register_store(store: Store, exist_ok: bool = False) -> None:
    """Give `store` its name in this process.

    Args:
        store: the store; registering the same one again is no error.
        exist_ok: replace another store of that name instead of raising.

    Raises:
        NameTakenError: another store has the name.
    """
    with _lock:
        if _registered.setdefault(store.name, store) is not store:
            if not exist_ok:
                raise NameTakenError("store", store.name)
            _registered[store.name] = store


def unregister_store(store: Store | str) -> None:
    """Take a store's name away in this process; no error if it has none. Closes nothing."""
    with _lock:
        name = store if isinstance(store, str) else store.name
        if isinstance(store, str) or _registered.get(name) is store:
            _registered.pop(name, None)


def get_store(which: str | Any) -> Store | None:
    """Return a store of this process by its name, or the one that a proxy's target lies in.

    A name finds the registered store, else an open one of that name, else None. A proxy finds its
    store, opening it from the proxy's own specification if need be; None for a proxy of no store.
    """
    from isthmus.proxy import get_factory, is_proxy

    if is_proxy(which):  # first: a proxy of a text is a text, too
        store: Store | None = getattr(get_factory(which), "store", None)
        return store
    if not isinstance(which, str):
        raise TypeError(f"get_store takes a store's name or a proxy, not a {type(which).__name__}")
    with _lock:
        found = _registered.get(which)
        if found is None:
            found = next((s for s in _known.values() if s.name == which and not s.closed), None)
        return found


def registered(name: str) -> Store | None:
    """Return the store that has a name of its own in this process, not one that is merely open."""
    return _registered.get(name)


def opening() -> AbstractContextManager[object]:
    """Return what keeps every other thread from opening or registering a store."""
    return _lock


def know(identity: bytes, store: Store) -> None:
    """Let proxies of this configuration find an open store."""
    with _lock:
        _known.setdefault(identity, store)


def known(identity: bytes) -> Store | None:
    """Return the open store of a configuration, if this process has one."""
    store = _known.get(identity)
    return None if store is None or store.closed else store


def forget(store: Store) -> None:
    """Drop every trace of a store that was closed."""
    with _lock:
        unregister_store(store)
        for table in (_known, _unnamed):
            for identity in [i for i, s in table.items() if s is store]:
                del table[identity]


def find(identity: bytes, open_it: Callable[[], Store]) -> Store:
    """Return the open store of this configuration, or open it and keep it open.

    Opening happens under the lock: two threads that resolve the first proxies of a store share one
    connection. No object is read under it.
    """
    store = _known.get(identity)
    if store is not None and not store.closed:
        return store
    with _lock:
        store = _known.get(identity)
        if store is None or store.closed:
            store = open_it()
            _known[identity] = store
            if _registered.setdefault(store.name, store) is not store:
                _unnamed[identity] = store
        return store


def _after_fork_in_child() -> None:
    # Another thread of the parent may have held the lock at the fork.
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
