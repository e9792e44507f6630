"""Owned proxies and references: proxies that know what they may do, and how they travel.

A handle that a task gets is a twin of the caller's, made by :mod:`isthmus.store.scopes`; such a twin alone
may be pickled, as often as an engine likes, and arrives as a handle that may not.
"""

from __future__ import annotations

import itertools
import os
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.errors import MovedError, OwnershipError
from isthmus.proxy import Proxy, TargetClass, get_factory
from isthmus.proxy import target_class as about_of
from isthmus.proxy._once import unsettle
from isthmus.store.config import LEASE_SECONDS
from isthmus.store.factory import StoreFactory, read_wire
from isthmus.store.renewal import Holding, hold
from isthmus.store.rules import ANEW, Borrow, Owner

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Handle",
    "HandleFactory",
    "OwnedProxy",
    "RefMutProxy",
    "RefProxy",
    "arrive",
    "end_handle",
    "factory_of",
    "handle_from_wire",
    "make",
    "owners",
    "refresh",
]

T = TypeVar("T")
_numbers = itertools.count()
Key = tuple[Any, ...]

_WAYS = (
    "give it to a task with isthmus.store.scopes.submit or a StoreExecutor; a task returns an owned proxy "
    "if it was submitted so"
)


class HandleFactory(StoreFactory[T]):
    """Fetches a handle's object, a copy of its own, if the rules allow that now."""

    __slots__ = ("keeps", "lease", "number", "right", "travels")

    right: Owner | Borrow | None
    """What this process knows of it."""
    number: int
    """Tells it from others of this process."""
    travels: str
    """Why it may be pickled ("task", "result"), or how it ended ("over"), or nothing."""
    lease: float | None
    """Period of the object's lease in seconds."""
    keeps: Any
    """The target that was taken away last, see ``unsettle``."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.right = None
        self.number = next(_numbers)
        self.travels = ""
        self.lease = LEASE_SECONDS
        self.keeps = None

    def _fetch(self) -> T:
        if self.travels == "over":
            raise MovedError(
                "a reference ends with its task", self.__proxy_repr__(), "is not borrowed", ANEW
            )
        if self.right is not None:
            self.right.check_read()
        return super()._fetch()

    def _own_deserializer(self) -> Callable[[Any], T] | None:
        # Never from the cache, which would share the copy and does not hear of updates elsewhere.
        own = super()._own_deserializer()
        serializers = self.store._serializers
        return own or (lambda data: serializers.decode(data, None))

    def __reduce__(self) -> tuple[Any, ...]:
        # The object's place alone, as of any proxy: a right does not travel with it.
        return StoreFactory.__reduce__(self)

    def __dask_tokenize__(self) -> Any:
        # An object that may change is not the same value twice.
        return *super().__dask_tokenize__(), os.getpid(), self.number

    def twin(self) -> HandleFactory[T]:
        """Return another factory of the object, without rights."""
        other = HandleFactory[T](
            self.identity,
            self.key,
            deserializer=self.deserializer,
            made=self.made,
            store=self._store,
        )
        other.lease = self.lease
        return other


class Handle(Proxy[T]):
    """What owned proxies and references have in common."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: Any = 2) -> tuple[Any, ...]:
        factory = factory_of(self)
        kind = next(place for place, kind in enumerate(_KINDS) if isinstance(self, kind))
        if factory.travels not in ("task", "result"):
            raise OwnershipError(
                "an owned proxy moves, and a reference goes, only with a task",
                factory.__proxy_repr__(),
                "was to be pickled",
                _WAYS,
            )
        wire = factory.to_wire(about_of(self))
        if factory.travels == "result" and isinstance(factory.right, Owner):
            owner = factory.right
            with owner.lock:  # from now on it belongs to whoever unpickles it
                owner.gone = owner.gone or "was moved to where its task's result went"
            if owner.holding is not None:
                owner.holding.release()
        return handle_from_wire, (kind, wire, factory.lease, factory.travels)

    __reduce__ = __reduce_ex__

    def __copy__(self) -> Any:
        raise OwnershipError(
            "an object has one owner",
            factory_of(self).__proxy_repr__(),
            "was to be copied with its handle",
            "clone() an owned proxy, or copy extract(proxy)",
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.__copy__()


class OwnedProxy(Handle[T]):
    """A proxy of an object that goes when the proxy does; made by ``Store.owned_proxy``."""

    __slots__ = ()


class RefProxy(Handle[T]):
    """A proxy that borrows an object from its owner, to read it; made by ``borrow``."""

    __slots__ = ()


class RefMutProxy(Handle[T]):
    """A proxy that alone may change an object of another owner; made by ``mut_borrow``."""

    __slots__ = ()


_KINDS: tuple[type[Handle[Any]], ...] = (OwnedProxy, RefProxy, RefMutProxy)


def factory_of(handle: Any) -> HandleFactory[Any]:
    """Return a handle's factory."""
    factory = get_factory(handle)
    assert isinstance(factory, HandleFactory)
    return factory


def make(
    kind: type[Handle[Any]],
    factory: HandleFactory[Any],
    about: TargetClass | None,
    right: Owner | Borrow | None,
) -> Any:
    """Return a handle of a right, which ends with the handle."""
    factory.right = right
    handle = kind(factory, about)
    # Not at exit: then whatever this process answers for is evicted at once, see isthmus.store.renewal.
    if isinstance(right, Owner) and right.holding is not None:
        weakref.finalize(handle, _owner_gone, right).atexit = False
    elif isinstance(right, Borrow):
        weakref.finalize(handle, _reference_gone, right).atexit = False
    return handle


def refresh(handle: Any) -> None:
    """Take a handle's copy away: its next use fetches the object, or is told why it may not."""
    factory = factory_of(handle)
    factory.keeps = unsettle(handle)
    factory._pending = None


def end_handle(handle: Any) -> None:
    """End a handle that a task had: what was not read by then cannot be read any more."""
    factory_of(handle).travels = "over"
    refresh(handle)


def handle_from_wire(kind: int, wire: bytes, lease: float | None, how: str) -> Any:
    """Rebuild a handle where a task, or a task's result, arrives; no I/O."""
    plain, about = read_wire(wire)
    factory = HandleFactory[Any](
        plain.identity, plain.key, deserializer=plain.deserializer, made=plain.made
    )
    factory.lease = lease
    if how == "task":
        return arrive(_KINDS[kind], factory, about)
    place = factory.identity, factory.key
    known = owners.get(place)
    if known is not None and not known.gone:
        owner = known  # an engine may hand out one result twice: they are handles of one owner
        with owner.lock:
            owner.handles += 1
    else:
        holding = hold(Holding(factory.identity, factory.key, lease, None))
        owner = owners[place] = Owner(factory.__proxy_repr__(), holding)
    return make(OwnedProxy, factory, about, owner)


def arrive(kind: type[Handle[Any]], factory: HandleFactory[Any], about: TargetClass | None) -> Any:
    """Return the handle that a task gets: what becomes of an owned object, the task's end decides."""
    factory.travels = "task"  # a scheduler may unpickle it on its way and pickle it again
    owner = Owner(factory.__proxy_repr__())
    if kind is OwnedProxy:
        return make(kind, factory, about, owner)
    # Its handle may go before what the task lends of it: that is told apart by scopes.Task, too.
    factory.right = Borrow(owner, kind is RefMutProxy, "for its task", received=True)
    return kind(factory, about)


owners: weakref.WeakValueDictionary[tuple[bytes, Key], Owner] = weakref.WeakValueDictionary()
"""The owners in this process, by store and key."""


def _owner_gone(owner: Owner) -> None:
    if owner.lose_handle() and owner.holding is not None:
        owner.holding.evict()


def _reference_gone(borrow: Borrow) -> None:
    if borrow.handle:
        borrow.end()
