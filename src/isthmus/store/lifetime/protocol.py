"""What a lifetime is to a store, and how a store puts objects under one."""

from __future__ import annotations

import contextlib
import math
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from isthmus.connectors import LeasingConnector
from isthmus.errors import CapabilityError, LifetimeEndedError, NoRouteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isthmus.proxy import Proxy
    from isthmus.store.objects import Key, Objects
    from isthmus.store.store import Store

__all__ = ["LeasingLifetime", "Lifetime", "Promise", "store_under"]


@runtime_checkable
class Lifetime(Protocol):
    """Evicts objects when something has ended; what that is, each kind of lifetime says.

    Whatever has these four methods can be given as ``lifetime=``. They may be called by any thread.
    """

    def add_key(self, *keys: Any, store: Store | None = None) -> None:
        """Evict these objects, too, when the lifetime ends.

        Raises:
            LifetimeEndedError: it has ended; none of the keys was added.
        """
        ...

    def add_proxy(self, *proxies: Proxy[Any]) -> None:
        """Evict the objects of these proxies, too, when the lifetime ends.

        Raises:
            LifetimeEndedError: it has ended; none of the proxies was added.
        """
        ...

    def close(self) -> None:
        """End the lifetime and evict its objects; idempotent.

        Raises:
            LifetimeError: some could not be evicted; closing it again tries those again.
        """
        ...

    def done(self) -> bool:
        """Return whether the lifetime has ended; does no I/O."""
        ...


class Promise(NamedTuple):
    """The lease that a channel is to give an object, so that it goes even if this process is killed."""

    seconds: float
    """From now on."""
    until: float
    """When the lifetime will have ended, on its own clock."""


@runtime_checkable
class LeasingLifetime(Lifetime, Protocol):
    """Knows when it will end, and has channels keep that time, too."""

    def promise(self) -> Promise:
        """Return the lease for objects that are stored now."""
        ...

    def add_leased(self, *keys: Any, store: Store, until: float) -> None:
        """As `add_key`, for objects that were stored with the lease that :meth:`promise` named.

        Args:
            *keys: of the objects.
            store: where they lie.
            until: as promised; infinity for a lease that the user chose, which is left alone.
        """
        ...


def store_under(
    lifetime: Lifetime,
    store: Objects,
    lease: float | None,
    options: dict[str, Any],
    put: Callable[[], Sequence[Key]],
) -> Sequence[Key]:
    """Store objects, and leave their eviction to a lifetime.

    Args:
        lifetime: whose objects they become.
        store: where they will lie.
        lease: that the user asked for; None for the lifetime's own, if it has one.
        options: of the connector; gets the lease.
        put: stores the objects with these options and returns their keys.

    Returns:
        What `put` returned.

    Raises:
        LifetimeEndedError: the lifetime has ended, before or meanwhile; nothing stays behind.
    """
    admit(lifetime)
    promise = promised(lifetime, store, lease)
    store._with_lease(options, lease if promise is None else promise.seconds)
    try:
        keys = put()
    except (CapabilityError, NoRouteError):
        if promise is None or lease is not None:
            raise
        # A connector of connectors gives leases where those can; this object fits only one that cannot.
        promise = None
        del options["lease"]
        keys = put()
    try:
        hand_over(lifetime, store, keys, promise)
    except BaseException:
        for key in keys:
            with contextlib.suppress(Exception):  # why it was refused is what the caller must hear
                store.evict(key)
        raise
    return keys


def reserve_under(lifetime: Lifetime, store: Store, key: Key, lease: float | None) -> float | None:
    """Leave the eviction of what a future will be set to to a lifetime; does no I/O.

    Args:
        lifetime: whose object it becomes.
        store: where it will lie.
        key: of the object.
        lease: that the user asked for; None for the lifetime's own, if it has one.

    Returns:
        The seconds of lease that the object is to get when it is set.

    Raises:
        LifetimeEndedError: the lifetime has ended.
    """
    admit(lifetime)
    promise = promised(lifetime, store, lease)
    hand_over(lifetime, store, [key], promise)
    return lease if promise is None else promise.seconds


def admit(lifetime: Lifetime) -> None:
    """Check, before anything is stored, that a lifetime takes objects.

    Raises:
        TypeError: it is no lifetime.
        LifetimeEndedError: it has ended.
    """
    if not _implements(type(lifetime), Lifetime):
        raise TypeError(
            f"lifetime= takes a lifetime (see isthmus.store.lifetime), not a {type(lifetime).__name__}"
        )
    if lifetime.done():
        raise LifetimeEndedError(repr(lifetime))


def promised(lifetime: Lifetime, store: Objects, lease: float | None) -> Promise | None:
    """Return the lease that a lifetime's objects get, None if it or the channel has none.

    Where the user asked for one, it is that, which the lifetime must not touch.
    """
    if not _implements(type(lifetime), LeasingLifetime):
        return None
    if lease is not None:
        return Promise(lease, math.inf)
    leasing: Any = lifetime
    return leasing.promise() if isinstance(store.connector, LeasingConnector) else None


def hand_over(lifetime: Lifetime, store: Any, keys: Sequence[Key], promise: Promise | None) -> None:
    """Give a lifetime objects that were stored with this lease."""
    if promise is None:
        lifetime.add_key(*keys, store=store)
    else:
        leasing: Any = lifetime
        leasing.add_leased(*keys, store=store, until=promise.until)


@cache
def _implements(cls: type, protocol: type) -> bool:
    # Looking through a protocol's methods takes ten times as long as storing a small object.
    return issubclass(cls, protocol)
