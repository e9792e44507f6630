"""Waiting for many objects with one thread."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.connectors import BellConnector
from isthmus.connectors.polling import FIRST_PAUSE, LONGEST_PAUSE, longer
from isthmus.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from isthmus.connectors import Connector

__all__ = ["Waiter"]

Key = tuple[Any, ...]

_LOOKING = 0.2  # of a core at most, however many objects are waited for
_RECHECK_SECONDS = 1.0  # where a bell rings: it is not heard while a server fails over


class _Expected(NamedTuple):
    there: Future[bool]
    deadline: float


class Waiter:
    """Waits for objects that somebody will store, for all of a store's with one thread.

    The thread lives for as long as something is waited for. It looks for each object every 0.5 to
    5 ms (less often when there are hundreds), or hears of it where the connector has a bell.

    Args:
        connector: where the objects will be.
        name: of the store, for the thread's name and for error messages.
    """

    def __init__(self, connector: Connector[Any], name: str) -> None:
        self._connector = connector
        self._name = name
        self._lock = threading.Lock()
        self._new: list[tuple[Key, _Expected]] = []
        self._thread: threading.Thread | None = None
        self._stir = threading.Event()  # something is new, or we are closed
        self._closed = False

    def expect(self, key: Key, timeout: float | None) -> Future[bool]:
        """Return a future that is True once the object is there, False `timeout` seconds from now.

        Does no I/O. Cancelling the future ends the waiting.

        Raises:
            ClosedError: the store is closed; who waits when it closes gets this error too.
        """
        from concurrent.futures import Future  # 5 ms that most users of a store do not need

        there: Future[bool] = Future()
        deadline = float("inf") if timeout is None else time.monotonic() + timeout
        with self._lock:
            self._check_open()
            if self._thread is None:
                name = f"isthmus-wait-{self._name}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._thread = thread
            self._new.append((key, _Expected(there, deadline)))
        self._stir.set()
        return there

    def close(self) -> None:
        """Tell everybody who waits that nobody looks any more; idempotent."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._stir.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"store {self._name!r}")

    def _work(self) -> None:
        awaited: dict[Key, list[_Expected]] = {}
        try:
            if isinstance(self._connector, BellConnector):
                with self._connector.bell() as listen:
                    # In slices: meanwhile somebody may begin to wait for what is there already.
                    self._watch(
                        awaited,
                        lambda seconds: listen(min(seconds, LONGEST_PAUSE)),
                        _RECHECK_SECONDS,
                    )
            else:
                self._watch(awaited, self._pause, 0.0)
        except Exception as error:
            with self._lock:
                self._thread = None
                rest, self._new = self._new, []
            _add(awaited, rest)
            for waiting in awaited.values():
                _tell(waiting, error)

    def _watch(
        self,
        awaited: dict[Key, list[_Expected]],
        listen: Callable[[float], Iterable[Key]],
        seldom: float,
    ) -> None:
        """Tell each who waits, until nobody does; look at most every `seldom` seconds.

        Raises:
            ClosedError: the store was closed meanwhile.
        """
        pause, due, soonest = FIRST_PAUSE, 0.0, 0.0
        while True:
            with self._lock:
                self._check_open()
                fresh, self._new = self._new, []
                self._stir.clear()
                if not fresh and not awaited:
                    self._thread = None
                    return
            _add(awaited, fresh)
            began = time.monotonic()
            if fresh:
                self._look(awaited, dict.fromkeys(key for key, _ in fresh))
                pause = FIRST_PAUSE
                soonest = min(soonest, *(expected.deadline for _, expected in fresh))
            elif began >= due:
                found = self._look(awaited, list(awaited))
                pause = FIRST_PAUSE if found else longer(pause)
                took = time.monotonic() - began
                due = began + max(pause, seldom, took / _LOOKING)
                soonest = 0.0  # who was cancelled goes too
            if began >= soonest:
                soonest = _expire(awaited)
            if awaited:
                for key in listen(max(0.0, min(due - time.monotonic(), LONGEST_PAUSE))):
                    _tell(awaited.pop(key, ()))

    def _look(self, awaited: dict[Key, list[_Expected]], keys: Iterable[Key]) -> bool:
        """Tell who waits for one of these keys if it is there; return whether any is."""
        any_there = False
        for key in keys:
            try:
                if not self._connector.exists(key):
                    continue
            except Exception as error:
                _tell(awaited.pop(key), error)
            else:
                _tell(awaited.pop(key))
            any_there = True
        return any_there

    def _pause(self, seconds: float) -> Sequence[Key]:
        self._stir.wait(seconds)
        return ()


def _add(awaited: dict[Key, list[_Expected]], new: Iterable[tuple[Key, _Expected]]) -> None:
    for key, expected in new:
        awaited.setdefault(key, []).append(expected)


def _expire(awaited: dict[Key, list[_Expected]]) -> float:
    """Let go of those whose time is over, or who wait no more; return when the next one's is over."""
    now = time.monotonic()
    for key, waiting in list(awaited.items()):
        over = [one for one in waiting if one.deadline <= now or one.there.cancelled()]
        if over:
            left = [one for one in waiting if one not in over]
            if left:
                awaited[key] = left
            else:
                del awaited[key]
            for one in over:
                if one.there.set_running_or_notify_cancel():
                    one.there.set_result(False)
    deadlines = (one.deadline for waiting in awaited.values() for one in waiting)
    return min(deadlines, default=float("inf"))


def _tell(waiting: Iterable[_Expected], error: Exception | None = None) -> None:
    for one in waiting:
        if one.there.set_running_or_notify_cancel():
            if error is None:
                one.there.set_result(True)
            else:
                one.there.set_exception(error)
