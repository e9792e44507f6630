"""The lifetime of so many seconds."""

from __future__ import annotations

import math
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from isthmus.connectors import LeasingConnector
from isthmus.errors import CapabilityError, LifetimeError
from isthmus.store.lifetime.collecting import CollectingLifetime
from isthmus.store.lifetime.protocol import Promise
from isthmus.store.lifetime.timer import Timer
from isthmus.store.lifetime.timer import timer as _timer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeAlias

    from isthmus.store.lifetime.collecting import _Listed
    from isthmus.store.store import Store

__all__ = ["GRACE_SECONDS", "LeaseLifetime"]

Span: TypeAlias = "float | timedelta | datetime"

GRACE_SECONDS = 1.0
"""Channels keep objects so much longer, so that an extension at the last moment finds them."""


class LeaseLifetime(CollectingLifetime):
    """Lasts for a time that can be extended.

    It runs on a clock that goes on while the machine sleeps and that nobody sets. One thread of the process
    ends all that are due. Where the channel knows leases (:class:`~isthmus.connectors.LeasingConnector`)
    it keeps the time as well, a second longer: so the objects of a process that was killed go, and those of
    one that ended stay for who else has their proxies, until the lease is over. Elsewhere the process
    evicts them when it ends, and one that is killed leaves them behind.

    Args:
        store: where keys lie that are added without saying where.
        expiry: seconds, or a ``timedelta``; or the moment when it ends, as a ``datetime`` (without a time
            zone it is local time), which is looked at once: setting the clock later changes nothing.
        name: for messages.
        timer: ends it; None for the process's own.

    Raises:
        ValueError: `expiry` is not positive and finite, or has passed.
    """

    def __init__(
        self,
        store: Store | None,
        expiry: Span,
        *,
        name: str | None = None,
        timer: Timer | None = None,
    ) -> None:
        super().__init__(store, name=name)
        self._timer = _timer if timer is None else timer
        self._until = self._timer.clock() + _seconds(expiry)

    def extend(self, by: Span) -> None:
        """Let it last longer: by so many seconds, or until a moment after its end.

        Costs one operation of the channel for each object there that has a lease.

        Raises:
            LifetimeEndedError: it is over.
            LifetimeError: it lasts longer, but a channel could not be told, and may let objects go before;
                ``extend(0)`` tells it again.
            ValueError: that would make it shorter, or not finite.
        """
        with self._lock:
            self._check_open()
            now = self._timer.clock()
            start = now if isinstance(by, datetime) else self._until
            until = start + (0.0 if by == 0 else _seconds(by))
            if until < self._until:
                raise ValueError(f"{self!r} ends in {self._until - now:g} s, later than {by}")
            self._until = until
        self._prolong(list(self._leases))

    def done(self) -> bool:
        """Return whether it is over or was closed; does no I/O."""
        return self._ended or self._timer.clock() >= self._until

    def add_key(self, *keys: Any, store: Store | None = None) -> None:
        """Evict these objects, too, when the lifetime ends; where the channel can, they get a lease.

        Raises:
            LifetimeEndedError: it has ended; none of the keys was added.
            KeyTypeError: one of them is not the store's; none was added.
            LifetimeError: all were added, but their channel could not be told.
        """
        store = self._store_or_own(store)
        if isinstance(store.connector, LeasingConnector):
            # As if they had a lease that ran out long ago: it is prolonged at once.
            self._list(store, own := [store._own(key) for key in keys], -math.inf)
            self._prolong([(store._identity, key) for key in own])
        else:
            super().add_key(*keys, store=store)

    def promise(self) -> Promise:
        """Return the lease for objects that are stored now."""
        until = self._until
        return Promise(max(until - self._timer.clock(), 0.0) + GRACE_SECONDS, until)

    def add_leased(self, *keys: Any, store: Store, until: float) -> None:
        """As `add_key`, for objects that were stored with the lease that :meth:`promise` named.

        Args:
            *keys: of the objects.
            store: where they lie.
            until: as promised; infinity for a lease that the user chose, which is left alone.
        """
        self._list(store, own := [store._own(key) for key in keys], until)
        if until < self._until:  # it was extended while they were stored
            self._prolong([(store._identity, key) for key in own])

    def deadline(self) -> float:
        """Return when it ends, on the timer's clock."""
        return self._until

    def expire(self) -> bool:
        """Close it if it is over; False if it is not."""
        with self._lock:
            if not self.done():
                return False
            self._ended = True
        self.close()
        return True

    def leave(self) -> None:
        """End at the process's end; what the channel will delete in time stays until then."""
        with self._lock:
            self._ended = True
        self._clear(leased=False)

    def close(self) -> None:
        """End it now, and evict its objects; idempotent.

        Raises:
            LifetimeError: of all failures together. What was not evicted stays listed; closing the
                lifetime again tries that again, and so does the timer.
        """
        super().close()
        self._timer.forget(self)

    def add(self, *things: Any) -> None:
        """Have other things end with this lifetime: before its objects go, the last added first."""
        super().add(*things)
        self._timer.watch(self)

    def _list(self, store: Store, keys: Any, until: float | None) -> None:
        super()._list(store, keys, until)
        self._timer.watch(self)

    def _prolong(self, listed: list[_Listed]) -> None:
        """Have channels keep what they would delete too early."""
        with self._prolonging:
            errors = list(self._renew(listed))
        if errors:
            raise LifetimeError(f"{self!r} could not tell a channel how long it lasts", errors)

    def _renew(self, listed: list[_Listed]) -> Iterator[Exception]:
        until = self._until
        # None: no channel keeps time for it; or it was evicted meanwhile.
        early = [
            one for one in listed if (kept := self._leases.get(one)) is not None and kept < until
        ]

        def lease(store: Any, one: _Listed) -> None:
            try:
                # False where there is no object: it was evicted, or is a future that is not set.
                store.lease(one[1], self.promise().seconds)
            except CapabilityError:  # of a connector in a connector
                kept = None
            else:
                kept = until
            with self._lock:
                if one in self._leases:  # else it was evicted meanwhile
                    self._leases[one] = kept

        yield from self._each(early, "prolong the lease of", lease)

    def _fresh_locks(self) -> None:
        super()._fresh_locks()
        self._prolonging = threading.Lock()

    def __repr__(self) -> str:
        left = max(self._until - self._timer.clock(), 0.0)
        return super().__repr__()[:-1] + ("" if self.done() else f", {left:.3g} s left") + ">"


def _seconds(span: Span) -> float:
    if isinstance(span, datetime):
        seconds = (span - datetime.now(span.tzinfo)).total_seconds()
    elif isinstance(span, timedelta):
        seconds = span.total_seconds()
    else:
        seconds = float(span)
    if not 0 < seconds < math.inf:
        raise ValueError(f"a lease lasts a positive, finite time, not {span}")
    return seconds
