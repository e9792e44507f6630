"""Objects that go when their owner does, and references to them that end with their task.

    owned = store.owned_proxy([1, 2, 3])
    future = submit(pool.submit, args=(sum, borrow(owned)))
    drop(owned)  # an error while the task runs, the end of the object afterwards

What a proxy of another process needs raw pointers' discipline for, the handles of this module do by rules
(dissertation, 4.3.3): an object has one owner; it may be lent to any number of readers or to one writer;
a reference ends with the task that it was given to. Functions, not methods: a handle is its target's
stand-in, and a method of ours would hide one of the target's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from isthmus.connectors import LeasingConnector, ReservingConnector
from isthmus.errors import (
    BorrowedError,
    CapabilityError,
    KeyTypeError,
    MissingObjectError,
    OwnershipError,
)
from isthmus.proxy import TargetClass, extract, get_factory, is_proxy, is_resolved, load_class
from isthmus.proxy import target_class as about_of
from isthmus.store.config import LEASE_SECONDS
from isthmus.store.factory import AWAITED, StoreFactory, made
from isthmus.store.handles import (
    Handle,
    HandleFactory,
    OwnedProxy,
    RefMutProxy,
    RefProxy,
    make,
    owners,
    refresh,
)
from isthmus.store.renewal import Holding, hold
from isthmus.store.rules import Borrow, Owner, site

if TYPE_CHECKING:
    from isthmus import codec
    from isthmus.proxy import Proxy
    from isthmus.store.store import Store

__all__ = [
    "OwnedProxy",
    "RefMutProxy",
    "RefProxy",
    "borrow",
    "clone",
    "drop",
    "into_owned",
    "mut_borrow",
    "update",
]

T = TypeVar("T")


def into_owned(proxy: Proxy[T], *, lease: float | None = LEASE_SECONDS) -> OwnedProxy[T]:
    """Return an owner of the object of a store's proxy, which is its first.

    Give up every other proxy of the object: they are what ownership is there to do without, and nobody
    counts them.

    Args:
        proxy: made by a store; not of a future, and not one that evicts.
        lease: seconds that the object outlives this process if it is killed; None for ever.

    Raises:
        OwnershipError: the object has an owner here, or this is a handle of one elsewhere.
        MissingObjectError: there is no object.
    """
    factory = get_factory(proxy) if is_proxy(proxy) else None
    if not isinstance(factory, StoreFactory) or factory._flags & AWAITED or factory.evict:
        raise TypeError(
            "into_owned takes a proxy that a store made, not one of a future and not one that evicts; "
            f"got {'such a proxy' if is_proxy(proxy) else type(proxy).__name__}"
        )
    known = owners.get((factory.identity, factory.key))
    if isinstance(factory, HandleFactory) or (known is not None and not known.gone):
        raise OwnershipError(
            "an object has one owner",
            factory.__proxy_repr__(),
            "has one already",
            "clone() it for another, or borrow() it",
        )
    store = factory.store
    key = store._own(factory.key)
    leased = lease is not None and isinstance(store.connector, LeasingConnector)
    if not (store.lease(key, lease, held=True) if leased else store.exists(key)):
        raise factory._missing()
    own = HandleFactory[T](
        factory.identity, key, deserializer=factory.deserializer, made=factory.made, store=store
    )
    return _owned(own, about_of(proxy), lease if leased else None)


def own(
    store: Store,
    obj: T,
    serializer: codec.Serializer | None,
    deserializer: codec.Deserializer | None,
    lease: float | None,
    options: dict[str, Any],
) -> OwnedProxy[T]:
    """Store an object and return its owner, see :meth:`Store.owned_proxy`."""
    if not isinstance(store.connector, LeasingConnector):
        lease = None
    if lease is not None:
        options["held"] = True
    key = store.put(obj, serializer=serializer, lease=lease, **options)
    factory = HandleFactory[T](
        store._identity, key, deserializer=deserializer, made=made(), store=store
    )
    return _owned(factory, TargetClass.of(obj) if deserializer is None else None, lease)


def _owned(
    factory: HandleFactory[T], about: TargetClass | None, lease: float | None
) -> OwnedProxy[T]:
    factory.lease = lease
    holding = Holding(factory.identity, factory.key, lease, factory.store, mine=True)
    owner = Owner(factory.__proxy_repr__(), hold(holding))
    owners[factory.identity, factory.key] = owner
    return cast("OwnedProxy[T]", make(OwnedProxy, factory, about, owner))


def borrow(owned: OwnedProxy[T]) -> RefProxy[T]:
    """Return a reference for reading; any number of them may exist, and of tasks that have one.

    It ends with the last of the tasks that it was given to, or with its handle if it was given to none.

    Raises:
        BorrowedError: the object is mutably borrowed.
        MovedError: this proxy is not the object's owner any more.
    """
    factory, owner = _owner(owned, "borrow")
    right = owner.borrow(False, site())
    return cast("RefProxy[T]", _reference(RefProxy, owned, factory, right))


def mut_borrow(owned: OwnedProxy[T]) -> RefMutProxy[T]:
    """Return the one reference that may change the stored object, with :func:`update`.

    Until it ends the owner neither reads the object nor lends it; afterwards it reads what was stored.

    Raises:
        BorrowedError: the object is borrowed.
        MovedError: this proxy is not the object's owner any more.
        CapabilityError: the connector cannot write an object again.
    """
    factory, owner = _owner(owned, "mut_borrow")
    with owner.lock:
        owner.check_borrow(True)
        _make_writable(owned, factory, owner)
        right = owner.borrow(True, site())
    refresh(owned)
    return cast("RefMutProxy[T]", _reference(RefMutProxy, owned, factory, right))


def _reference(kind: Any, owned: Any, factory: HandleFactory[Any], right: Borrow) -> Any:
    return make(kind, factory.twin(), about_of(owned), right)


def clone(owned: OwnedProxy[T]) -> OwnedProxy[T]:
    """Store the object a second time and return the owner of that one.

    What is cloned is the stored object: changes of the local copy that were not stored are not in it.

    Raises:
        BorrowedError: the object is mutably borrowed.
        MovedError: this proxy is not the object's owner any more.
    """
    factory, owner = _owner(owned, "clone")
    with owner.lock:
        owner.check_alone("clone", mutable=True)
    store = factory.store
    key = store._own(factory.key)
    data = store.connector.get(key)
    if data is None:
        raise factory._missing()
    connector: Any = store.connector
    twin = HandleFactory[T](
        factory.identity,
        connector.put(data, **_lease(factory), **_typed(store, owned)),
        deserializer=factory.deserializer,
        made=made(),
        store=store,
    )
    return _owned(twin, about_of(owned), factory.lease)


def update(
    handle: OwnedProxy[Any] | RefMutProxy[Any], *, serializer: codec.Serializer | None = None
) -> None:
    """Store a handle's copy of the object in place of what is stored; nothing to do if it has none.

    Not atomic: a process that is killed meanwhile leaves no object.

    Args:
        handle: an owned proxy that is not borrowed, or a mutable reference.
        serializer: as the object's own, if it was given one.

    Raises:
        BorrowedError: the object is borrowed.
        MovedError: this proxy is no handle of the object any more.
        OwnershipError: it is a reference for reading.
    """
    factory = _factory(handle, "update")
    if isinstance(handle, RefProxy):
        raise OwnershipError(
            "a reference is for reading",
            factory.__proxy_repr__(),
            "was to be updated through one",
            "mut_borrow() it",
        )
    if factory.deserializer is not None and serializer is None:
        raise TypeError(
            f"{factory.__proxy_repr__()} has a deserializer of its own: give update() the serializer, too"
        )
    right = factory.right
    if factory.travels == "over":
        factory()  # raises
    if isinstance(right, Owner):
        with right.lock:
            right.check_alone("update")
            if is_resolved(handle):
                _make_writable(handle, factory, right)
                _write(factory, extract(handle), serializer)
        return
    if right is not None:
        right.check_read()
    if is_resolved(handle):
        _write(factory, extract(handle), serializer)


def drop(handle: Handle[Any]) -> None:
    """Delete an owned object, or end a reference that no task was given; the handle is of no use then.

    Raises:
        BorrowedError: the object is borrowed, or a task has the reference.
        MovedError: this proxy is no handle of the object any more.
    """
    factory = _factory(handle, "drop")
    right = factory.right
    if isinstance(right, Owner):
        right.leave("drop", f"was dropped at {site()}")
        refresh(handle)
        if right.holding is not None:
            right.holding.evict()
        else:
            factory.store.evict(factory.key)
    elif right is not None and not right.received:
        with right.owner.lock:
            right.check_read()
            if right.loans:
                raise BorrowedError(
                    "a reference ends with its task",
                    factory.__proxy_repr__(),
                    f"was lent to a task at {right.loans[0].where} that has not ended",
                    "wait for its result",
                )
            right.end()
        factory.travels = "over"
        refresh(handle)
    else:
        factory.travels = "over"
        refresh(handle)


def _factory(handle: Any, what: str) -> HandleFactory[Any]:
    factory = get_factory(handle) if is_proxy(handle) else None
    if not isinstance(factory, HandleFactory):
        raise TypeError(
            f"{what} takes a handle that store.owned_proxy or borrow made, not "
            f"{'another proxy: into_owned() makes one' if is_proxy(handle) else type(handle).__name__}"
        )
    return factory


def _owner(owned: Any, what: str) -> tuple[HandleFactory[Any], Owner]:
    factory = _factory(owned, what)
    if not isinstance(factory.right, Owner):
        raise OwnershipError(
            "a reference is not lent again",
            factory.__proxy_repr__(),
            f"is borrowed itself, and {what}() needs its owner",
            "clone extract(reference), or let the owner lend it",
        )
    return factory, factory.right


def _make_writable(owned: Any, factory: HandleFactory[Any], owner: Owner) -> None:
    """Give the object a key under which it can be written again, which not every key is.

    Shared memory packs small objects together. An object that is there already stays as it is.
    """
    store = factory.store
    connector: Any = store.connector
    if not isinstance(store.connector, ReservingConnector):
        raise CapabilityError(repr(connector), ReservingConnector.__name__)
    key = store._own(factory.key)
    try:
        if not connector.put_at(key, b""):
            return
    except KeyTypeError:
        pass
    else:
        connector.evict(key)
        raise factory._missing()
    data = connector.get(key)
    if data is None:
        raise factory._missing()
    fresh = connector.reserve(**_typed(store, owned))
    connector.put_at(fresh, data, **_lease(factory))
    factory.key = fresh
    factory._wire = None
    old = owner.holding
    if old is None:
        connector.evict(key)
    else:
        owner.holding = hold(Holding(factory.identity, fresh, factory.lease, store, mine=True))
        owners.pop((factory.identity, key), None)
        owners[factory.identity, fresh] = owner
        old.evict()
    owner.which = factory.__proxy_repr__()


def _write(factory: HandleFactory[Any], obj: Any, serializer: codec.Serializer | None) -> None:
    store = factory.store
    key = store._own(factory.key)
    if not store.exists(key):
        raise factory._missing()
    pieces = store._serializers.encode(obj, serializer)  # before the old one goes
    connector: Any = store.connector
    store.evict(key)
    if not connector.put_at(key, pieces, **_lease(factory)):
        raise MissingObjectError(store.name, tuple(key), "", "")


def _typed(store: Store, owned: Any) -> dict[str, Any]:
    """Return what a connector wants to be told that chooses by class."""
    if not store._tells_type:
        return {}
    about = about_of(owned)
    cls = None if about is None else load_class(about)
    return {"of": type(extract(owned)) if cls is None else cls}


def _lease(factory: HandleFactory[Any]) -> dict[str, Any]:
    if factory.lease is None:
        return {}
    # Of a mutable reference the holder is the owner, who renews it.
    return {"lease": factory.lease, "held": isinstance(factory.right, Owner)}
