"""One thread for all connectors of a process: sweeps storages when a lease in them runs out.

It begins with the first lease that this process gives, or when a storage with leases is opened, and
ends when no open connector has any. So no operation waits for a sweep.
"""

from __future__ import annotations

import atexit
import contextlib
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

from isthmus.connectors.leases.terms import now
from isthmus.errors import ClosedError, IsthmusError
from isthmus.forking import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OFTEN_SECONDS", "SELDOM_SECONDS", "Upkept", "upkeep"]

OFTEN_SECONDS = 1.0
"""A process sweeps a storage at most so often."""
SELDOM_SECONDS = 30.0
"""And, as long as it finds leases there, at least so often: other processes give leases too."""


class Upkept(Protocol):
    """A connector with leases."""

    def _sweep_leases(self) -> float | None:
        """Delete what is overdue; return when the next lease runs out, None if there are no leases."""
        ...


class _Watched:
    """When to sweep one connector's storage."""

    __slots__ = ("at", "not_before", "owner")

    def __init__(self, owner: Upkept, at: float) -> None:
        self.owner = weakref.ref(owner)
        self.at = at
        self.not_before = 0.0


class Upkeep:
    """The thread, and what it looks after. Connectors are not kept alive by it."""

    def __init__(self) -> None:
        # An RLock inside: a finalizer, run anywhere, may call `forget`.
        self._changed = threading.Condition()
        self._watched: dict[int, _Watched] = {}
        self._thread: threading.Thread | None = None
        self._at_work: Upkept | None = None
        self._pauses = 0
        renew_after_fork(self)
        atexit.register(self._stop)

    def watch(self, owner: Upkept, due: float) -> None:
        """Have a connector swept at `due`, on the clock of `now`, and for as long as it finds leases."""
        with self._changed:
            watched = self._watched.get(id(owner))
            if watched is None or watched.owner() is not owner:
                watched = self._watched[id(owner)] = _Watched(owner, due)
            elif due < watched.at:
                watched.at = max(due, watched.not_before)
            else:
                return
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="isthmus-leases", daemon=True
                )
                self._thread.start()
            else:
                self._changed.notify_all()

    def forget(self, owner: Upkept) -> None:
        """Leave a connector alone from now on; a sweep under way is waited for."""
        with self._changed:
            self._watched.pop(id(owner), None)
            self._changed.notify_all()
            if threading.current_thread() is not self._thread:
                self._changed.wait_for(lambda: self._at_work is not owner)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Sweep nothing meanwhile: for who wants to see first what there is."""
        with self._changed:
            self._pauses += 1
            self._changed.wait_for(lambda: self._at_work is None)
        try:
            yield
        finally:
            with self._changed:
                self._pauses -= 1
                self._changed.notify_all()

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            with self._changed:
                if self._thread is threading.current_thread():
                    self._thread = None  # the next lease begins another

    def _turn(self) -> bool:
        """Sweep what is due, after waiting for it; return False if there is nothing to wait for."""
        with self._changed:
            self._watched = {k: w for k, w in self._watched.items() if w.owner() is not None}
            if not self._watched:
                self._thread = None
                return False
            next_up = min(self._watched.values(), key=lambda w: w.at)
            wait = next_up.at - now()
            if wait > 0 or self._pauses:
                # Not longer: nobody tells when a connector was forgotten without being closed.
                self._changed.wait(None if self._pauses else min(wait, OFTEN_SECONDS))
                return True
            owner = next_up.owner()
            if owner is None:
                return True
            next_up.at = float("inf")  # who gives a lease from now on is not overlooked
            next_up.not_before = now() + OFTEN_SECONDS
            self._at_work = owner
        due: float | None = float("inf")  # unreachable or full just now: try again some time later
        try:
            due = owner._sweep_leases()
        except ClosedError:
            due = None
        except (IsthmusError, OSError):
            pass  # whoever uses the connector hears of it from there
        finally:
            with self._changed:
                self._at_work = None
                self._changed.notify_all()
                if due is not None:
                    soonest = min(next_up.at, due, now() + SELDOM_SECONDS)
                    next_up.at = max(soonest, next_up.not_before)
                elif next_up.at == float("inf") and self._watched.get(id(owner)) is next_up:
                    del self._watched[id(owner)]
        del owner  # not under the lock: it may be the last reference, and closing calls `forget`
        return True

    def _stop(self) -> None:
        # Before the connectors' own exit handlers take away what a sweep is using.
        with self._changed:
            self._watched.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._at_work is None, timeout=5)

    def _forked(self) -> None:
        self._changed = threading.Condition()
        self._watched = {}
        self._thread = self._at_work = None
        self._pauses = 0


upkeep = Upkeep()
"""This process's."""
