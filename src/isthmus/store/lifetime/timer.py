"""One thread that ends the lifetimes of a process when their time has come."""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
from typing import TYPE_CHECKING, Protocol

from isthmus.connectors.leases import now
from isthmus.errors import LifetimeError
from isthmus.forking import renew_after_fork
from isthmus.store.lifetime.exits import at_exit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RETRY_SECONDS", "Timed", "Timer", "timer"]

RETRY_SECONDS = (1.0, 60.0)
"""After a failure the next try comes so soon; each further one after twice the time, at most so much."""
_LOOK_SECONDS = (
    30.0  # a waiting thread's clock stands still while the machine sleeps, ours does not
)

_log = logging.getLogger("isthmus.store")


class Timed(Protocol):
    """Ends when its time has come."""

    def deadline(self) -> float:
        """Return when, on the timer's clock; it may move on, not back."""
        ...

    def expire(self) -> bool:
        """End, if it is time; False if it is not."""
        ...

    def leave(self) -> None:
        """The process ends before: do away with what would stay for ever."""
        ...


class Timer:
    """Watches deadlines with one thread, which lives as long as there are any.

    Args:
        clock: seconds on a clock that nobody sets.
        threaded: False to have :meth:`turn` called by somebody else.
    """

    def __init__(self, clock: Callable[[], float] = now, *, threaded: bool = True) -> None:
        self.clock = clock
        self._threaded = threaded
        self._numbers = itertools.count()
        self._process = 0
        self._changed = threading.Condition()
        self._watched: dict[int, Timed] = {}
        self._queue: list[tuple[float, int, Timed, float]] = []
        self._thread: threading.Thread | None = None
        renew_after_fork(self)

    def watch(self, timed: Timed) -> None:
        """End something when its time has come; again is no error."""
        with self._changed:
            if id(timed) in self._watched:
                return
            if self._process != os.getpid():
                self._process = os.getpid()
                at_exit(self.stop)
            self._watched[id(timed)] = timed
            self._push(timed, timed.deadline(), RETRY_SECONDS[0])
            if self._thread is None and self._threaded:
                self._thread = threading.Thread(
                    target=self._run, name="isthmus-lifetimes", daemon=True
                )
                self._thread.start()
            else:
                self._changed.notify()

    def forget(self, timed: Timed) -> None:
        """Leave something alone: it has ended."""
        with self._changed:
            self._watched.pop(id(timed), None)
            if len(self._queue) > 2 * len(self._watched):
                self._queue = [
                    entry for entry in self._queue if self._watched.get(id(entry[2])) is entry[2]
                ]
                heapq.heapify(self._queue)
            if not self._watched:
                self._changed.notify()

    def turn(self) -> float | None:
        """End what is due; return for how many seconds nothing will be, None for ever."""
        while True:
            with self._changed:
                while (
                    self._queue
                    and self._watched.get(id(self._queue[0][2])) is not self._queue[0][2]
                ):
                    heapq.heappop(self._queue)
                if not self._queue:
                    return None
                wait = self._queue[0][0] - self.clock()
                if wait > 0:
                    return wait
                _, _, timed, pause = heapq.heappop(self._queue)
            try:
                if timed.expire():
                    self.forget(timed)
                else:  # it was extended
                    with self._changed:
                        self._push(timed, timed.deadline(), RETRY_SECONDS[0])
            except LifetimeError as error:
                if pause == RETRY_SECONDS[0]:
                    _log.warning("%s; trying again until it can", error, exc_info=error)
                with self._changed:
                    self._push(timed, self.clock() + pause, min(2 * pause, RETRY_SECONDS[1]))

    def stop(self) -> None:
        """End watching: the process ends."""
        with self._changed:
            left = list(self._watched.values())
            self._watched.clear()
            self._queue.clear()
            self._changed.notify()
        for timed in left:
            timed.leave()

    def _push(self, timed: Timed, at: float, pause: float) -> None:
        heapq.heappush(self._queue, (at, next(self._numbers), timed, pause))

    def _run(self) -> None:
        while True:
            wait = self.turn()
            with self._changed:
                if not self._watched:
                    self._thread = None
                    return
                # What was added since `turn` looked is due later than now, or rang meanwhile.
                first = self._queue[0][0] - self.clock() if self._queue else wait
                if first is None or first > 0:
                    self._changed.wait(
                        _LOOK_SECONDS if first is None else min(first, _LOOK_SECONDS)
                    )

    def _forked(self) -> None:
        self._changed = threading.Condition()
        self._watched, self._queue = {}, []
        self._thread = None


timer = Timer()
"""This process's."""
