"""What all lifetimes of isthmus have in common: objects are listed, and evicted once at the end."""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from isthmus.connectors import connectors
from isthmus.errors import LifetimeEndedError, LifetimeError, MovedError
from isthmus.forking import renew_after_fork
from isthmus.proxy import get_factory, is_proxy
from isthmus.store import names
from isthmus.store.config import unpack
from isthmus.store.factory import StoreFactory, short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isthmus.proxy import Proxy
    from isthmus.store.objects import Key
    from isthmus.store.store import Store

__all__ = ["CollectingLifetime"]

_Listed = tuple[bytes, "Key"]
"""A store's configuration and a key there: equal for every handle of one store."""


@runtime_checkable
class _Closable(Protocol):
    def close(self) -> Any: ...


class CollectingLifetime:
    """Keeps a list of objects and evicts them when it is closed; a base for lifetimes of your own.

    A thread that closes it while another does returns when all is gone. A forked child begins with an
    empty list: what was listed before the fork is the parent's. A store that was closed in the
    meantime is no hindrance, its channel is opened once more.

    Args:
        store: where keys lie that are added without saying where.
        name: for messages.
    """

    def __init__(self, store: Store | None = None, *, name: str | None = None) -> None:
        self.store = store
        self.name = name
        self._ended = False
        self._leases: dict[_Listed, float | None] = {}
        """What is listed; until when the channel keeps it, None if the channel knows of no end."""
        self._stores: dict[bytes, Store] = {}
        self._owned: dict[int, tuple[Any, Callable[[], Any]]] = {}
        self._at_it = False
        self._fresh_locks()
        renew_after_fork(self)

    def add_key(self, *keys: Any, store: Store | None = None) -> None:
        """Evict these objects, too, when the lifetime ends.

        Args:
            *keys: what ``store.put`` returned; adding one twice is no error.
            store: where they lie; None for the lifetime's own.

        Raises:
            LifetimeEndedError: it has ended; none of the keys was added.
            KeyTypeError: one of them is not the store's; none was added.
        """
        store = self._store_or_own(store)
        self._list(store, [store._own(key) for key in keys], None)

    def add_proxy(self, *proxies: Proxy[Any]) -> None:
        """Evict the objects of these proxies, too, when the lifetime ends; owned ones are dropped.

        Raises:
            LifetimeEndedError: it has ended; none of the proxies was added.
            TypeError: one of them is not the proxy of a store; none was added.
        """
        owned: list[Any] = []
        keys: list[tuple[Store, Key]] = []
        for proxy in proxies:
            factory = get_factory(proxy) if is_proxy(proxy) else None
            if not isinstance(factory, StoreFactory):
                raise TypeError(
                    f"a lifetime takes proxies made by a store, not a {type(proxy).__name__}"
                )
            if _drop(proxy) is not None:
                owned.append(proxy)
            else:
                keys.append((factory.store, factory.store._own(factory.key)))
        if owned:
            self.add(*owned)
        for store, key in keys:
            self.add_key(key, store=store)

    def add(self, *things: Any) -> None:
        """Have other things end with this lifetime: before its objects go, the last added first.

        Args:
            *things: other lifetimes, owned proxies, or whatever has a ``close()``.

        Raises:
            LifetimeEndedError: this one has ended; none was added.
            TypeError: one of them cannot be closed; none was added.
            ValueError: a lifetime would own itself, directly or through others; none was added.
        """
        endings = {}
        for thing in things:
            end = _drop(thing)
            if end is None:
                if not isinstance(thing, _Closable):
                    raise TypeError(
                        f"a lifetime owns what has a close(), not a {type(thing).__name__}"
                    )
                if isinstance(thing, CollectingLifetime) and thing._reaches(self):
                    raise ValueError(f"{thing!r} owns {self!r}, which therefore cannot own it")
                end = thing.close
            endings[id(thing)] = thing, end
        with self._lock:
            self._check_open()
            self._owned.update(endings)

    def keys(self) -> list[tuple[str, Key]]:
        """Return what is listed: the name of each object's store, and its key."""
        with self._lock:
            return [(self._stores[identity].name, key) for identity, key in self._leases]

    def done(self) -> bool:
        """Return whether the lifetime has ended; does no I/O."""
        return self._ended

    def close(self) -> None:
        """End the lifetime: close what it owns, and evict its objects; idempotent.

        Where a channel does not answer, the rest of its objects is left for another time, so
        that closing does not wait for each of them.

        Raises:
            LifetimeError: of all failures together. What was not evicted stays listed; closing the
                lifetime again tries that again.
        """
        with self._lock:
            self._ended = True
        self._clear(leased=True)

    def _clear(self, *, leased: bool) -> None:
        """Close what is owned and evict what is listed; without `leased` only what else would stay."""
        with self._clearing:
            if self._at_it:  # something that it owns closes it
                return
            self._at_it = True
            try:
                errors = [*self._end_owned(), *self._evict_listed(leased)]
            finally:
                self._at_it = False
        if errors:
            raise LifetimeError(f"{self!r} could not end everything", errors)

    def _end_owned(self) -> Iterator[Exception]:
        for thing, end in reversed(list(self._owned.values())):
            try:
                end()
            except Exception as error:
                error.add_note(f"while ending {type(thing).__name__} with {self!r}")
                yield error
            else:
                self._owned.pop(id(thing), None)

    def _evict_listed(self, leased: bool) -> Iterator[Exception]:
        listed = list(self._leases.items())
        wanted = [one for one, until in listed if leased or until is None]

        def evict(store: Any, one: _Listed) -> None:
            store.evict(one[1])
            self._leases.pop(one, None)

        yield from self._each(wanted, "evict", evict)

    def _each(
        self, wanted: list[_Listed], verb: str, do: Callable[[Any, _Listed], None]
    ) -> Iterator[Exception]:
        """Do something with objects, store by store; yield what failed.

        `do` gets an open store, or its connector if the store was closed.
        """
        by_store: dict[bytes, list[_Listed]] = {}
        for one in wanted:
            by_store.setdefault(one[0], []).append(one)
        for identity, listed in by_store.items():
            done = 0
            try:
                with self._opened(identity) as store:
                    for one in listed:
                        try:
                            do(store, one)
                        except (ConnectionError, TimeoutError):  # the channel is not there
                            raise
                        except Exception as error:
                            error.add_note(self._note(verb, one))
                            yield error
                        done += 1
            except Exception as error:
                error.add_note(self._note(verb, listed[done]))
                if done + 1 < len(listed):
                    error.add_note(f"{len(listed) - done - 1} more of this store were not tried")
                yield error

    @contextlib.contextmanager
    def _opened(self, identity: bytes) -> Iterator[Any]:
        store: Store | None = self._stores[identity]
        if store is not None and store.closed:
            store = names.known(identity)
        if store is not None:
            yield store
            return
        # Not as a store: a proxy that is resolved meanwhile would find it, and then find it closed.
        config = unpack(identity)
        with contextlib.closing(connectors.get(config.kind).from_config(config.options)) as channel:
            yield channel

    def _note(self, verb: str, one: _Listed) -> str:
        identity, key = one
        return f"could not {verb} {short(key)} of store {self._stores[identity].name!r}"

    def _list(self, store: Store, keys: list[Key], until: float | None) -> None:
        identity = store._identity
        with self._lock:
            self._check_open()
            known = self._stores.get(identity)
            if known is None or known.closed:
                self._stores[identity] = store
            for key in keys:
                self._leases[identity, key] = until

    def _store_or_own(self, store: Store | None) -> Store:
        store = self.store if store is None else store
        if store is None:
            raise TypeError(f"{self!r} has no store of its own: say where the keys lie, store=…")
        return store

    def _check_open(self) -> None:
        if self.done():
            raise LifetimeEndedError(repr(self))

    def _reaches(self, other: CollectingLifetime) -> bool:
        if self is other:
            return True
        owned = [thing for thing, _ in list(self._owned.values())]
        return any(isinstance(t, CollectingLifetime) and t._reaches(other) for t in owned)

    def _fresh_locks(self) -> None:
        self._lock = threading.RLock()
        self._clearing = threading.RLock()
        self._at_it = False

    def _forked(self) -> None:
        self._fresh_locks()
        self._leases, self._stores, self._owned = {}, {}, {}

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        state = "ended " if self.done() else ""
        return f"<{state}{type(self).__name__}{name} of {len(self._leases)} objects>"


def _drop(thing: Any) -> Callable[[], Any] | None:
    """Return what ends an owned proxy, whose methods are its target's; None for anything else."""
    if "isthmus.store.ownership" not in sys.modules:
        return None  # nobody has made any: no need to import it
    from isthmus.store import ownership

    if isinstance(thing, (ownership.RefProxy, ownership.RefMutProxy)):
        raise TypeError(
            "a lifetime cannot take what is borrowed; give it the owner, or clone() that"
        )
    if not isinstance(thing, ownership.OwnedProxy):
        return None

    def drop() -> None:
        with contextlib.suppress(MovedError):  # somebody else's by now, or gone
            ownership.drop(thing)

    return drop
