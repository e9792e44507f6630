"""What this process owns: kept alive by renewing its leases, and evicted when its owners are gone.

One thread for the process, as long as it owns anything. It renews each lease when a third of its period
has passed, in one operation per store, and evicts what the garbage collector found: that may strike
anywhere, inside a connector's lock too, where an eviction would wait for itself.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from isthmus.store import names
from isthmus.store.config import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isthmus.store.store import Store

__all__ = ["Holding", "held", "hold", "reach"]

Key = tuple[Any, ...]


class Holding:
    """One object that this process answers for.

    Args:
        identity: of its store.
        key: in it.
        lease: seconds, None without.
        store: in this process, if it is open.
        mine: whether the lease names this process as its holder already.
    """

    __slots__ = ("due", "identity", "key", "lease", "mine", "passing", "store")

    def __init__(
        self,
        identity: bytes,
        key: Key,
        lease: float | None,
        store: Store | None,
        *,
        mine: bool = False,
    ) -> None:
        self.identity = identity
        self.key = key
        self.lease = lease
        self.store = store
        self.mine = mine
        self.passing = False  # on its way to another owner: not ours to evict when we exit
        self.due = float("inf")
        self.renewed()

    def renewed(self) -> None:
        """Begin a period."""
        if self.lease is not None:
            self.due = time.monotonic() + self.lease / 3

    def evict(self) -> None:
        """Delete the object, now or, where that could wait for itself, by the thread."""
        if not _keeper.drop(self):
            return
        if _collecting():
            _keeper.later.put(self)
        else:
            self.delete()

    def release(self) -> None:
        """Answer for it no longer: somebody else does."""
        _keeper.drop(self)

    def delete(self) -> None:
        """Delete the object, through a store of its own if ours is closed."""
        with reach(self.identity, self.store) as store:
            store.evict(self.key)


@contextlib.contextmanager
def reach(identity: bytes, store: Store | None) -> Iterator[Store]:
    """Yield an open store of a configuration, one for the moment if this process has none."""
    if store is None or store.closed:
        store = names.known(identity)
    if store is not None:
        yield store
        return
    from isthmus.store.store import Store

    with Store.from_config(unpack(identity)) as brief:
        yield brief


class _Keeper:
    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._held: dict[Holding, None] = {}
        self._stores: set[bytes] = set()
        self._due = float("inf")
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        # Reentrant, unlike any condition: a finalizer may put what the thread is about to get.
        self.later: queue.SimpleQueue[Holding | None] = queue.SimpleQueue()

    def add(self, holding: Holding) -> None:
        with self._lock:
            if holding.identity not in self._stores:
                # Connectors close when the process exits, the last opened first: we come before them.
                self._stores.add(holding.identity)
                atexit.unregister(_at_exit)
                atexit.register(_at_exit)
            self._held[holding] = None
            sooner = len(self._held) == 1 or holding.due < self._due
            self._due = min(self._due, holding.due) if self._thread else holding.due
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="isthmus-owner", daemon=True)
                thread.start()
                self._thread = thread
                return
        if sooner:
            self.later.put(None)

    def drop(self, holding: Holding) -> bool:
        """Return whether it was held."""
        with self._lock:
            if self._held.pop(holding, self) is self:
                return False
            last = not self._held
        if last:
            self.later.put(None)
        return True

    def held(self) -> list[Holding]:
        with self._lock:
            return list(self._held)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._held and self.later.empty():
                    self._thread = None
                    return
                self._due = min((one.due for one in self._held), default=float("inf"))
                pause = self._due - time.monotonic()
            with contextlib.suppress(queue.Empty):
                found = self.later.get(timeout=max(0.0, min(pause, threading.TIMEOUT_MAX)))
                if found is not None:
                    _attempt(found.delete)
                del found
            self._renew()

    def _renew(self) -> None:
        now = time.monotonic()
        due: dict[bytes, list[Holding]] = {}
        with self._lock:
            for one in self._held:
                if one.due <= now:
                    due.setdefault(one.identity, []).append(one)
        for identity, holdings in due.items():
            for one in holdings:
                one.renewed()  # also if it fails now: the period has two more thirds

            def renew(identity: bytes = identity, holdings: list[Holding] = holdings) -> None:
                with reach(identity, holdings[0].store) as store:
                    store.renew([one.key for one in holdings if one.mine])
                    for one in holdings:
                        if not one.mine:
                            one.mine = store.lease(one.key, one.lease, held=True)

            _attempt(renew)


def _attempt(action: Callable[[], None]) -> None:
    # A server that is away: the period has time for another try, and what was to be evicted has a lease.
    # Whoever uses the object hears of it from there.
    with contextlib.suppress(Exception):
        action()


_keeper = _Keeper()
_collector: int | None = None  # the thread in which the garbage collector runs


def hold(holding: Holding) -> Holding:
    """Answer for an object from now on: renew its lease, evict it when this process exits."""
    _keeper.add(holding)
    return holding


def held() -> list[Holding]:
    """Return what this process answers for."""
    return _keeper.held()


def _collecting() -> bool:
    return _collector == threading.get_ident()


def _collected(phase: str, info: dict[str, Any]) -> None:
    global _collector
    _collector = threading.get_ident() if phase == "start" else None


def _at_exit() -> None:
    for one in _keeper.held():
        # What is on its way to a task may be needed by it; its lease ends it.
        if not (one.passing and one.lease is not None):
            try:
                if _keeper.drop(one):
                    one.delete()
            except Exception as error:
                print(f"isthmus could not evict {one.key} at exit: {error!r}", file=sys.stderr)


def _in_child() -> None:
    # A fork owns nothing: its parent does.
    global _keeper, _collector
    _keeper = _Keeper()
    _collector = None


gc.callbacks.append(_collected)
os.register_at_fork(after_in_child=_in_child)
