"""The factory in a future's proxy: it waits for an object that somebody else will store."""

from __future__ import annotations

import math
from concurrent.futures import Future as Call
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.codec.failures import Failure
from isthmus.connectors import WaitingConnector
from isthmus.errors import ClosedError, WaitTimeoutError
from isthmus.store.factory import AWAITED, StoreFactory, short
from isthmus.store.fetcher import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AwaitingFactory", "seconds"]

T = TypeVar("T")


class AwaitingFactory(StoreFactory[T]):
    """Fetches what a future was set to, once it is.

    Calling it holds the caller's thread until then. In the background nobody is held: one thread of the
    store waits for all, and a fetch takes one of the store's threads when there is something to fetch.
    """

    __slots__ = ()
    _flags = AWAITED

    def wait(self, timeout: float | None) -> None:
        """Block until the object is there, at most so many seconds.

        Raises:
            WaitTimeoutError: it did not come in time.
        """
        store = self.store
        key = store._own(self.key)
        connector: Any = store.connector
        assert isinstance(connector, WaitingConnector)  # store.future() asked
        if key not in store._fetcher.cache and not connector.wait(key, timeout):
            raise self.late(timeout)

    def arrive(self, timeout: float | None, then: Callable[[], T]) -> Call[T]:
        """Return a call of `then` in the background that begins when the object is there.

        Cancelling it ends the waiting.
        """
        store = self.store
        there = store._waiter.expect(store._own(self.key), timeout)
        arrived: Call[T] = Call()

        def proceed(there: Call[bool]) -> None:
            try:
                if not there.result():
                    raise self.late(timeout)
                fetch = store._background.run(then)
            except BaseException as error:
                _finish(arrived, None, error)
            else:
                fetch.add_done_callback(ended)

        def ended(fetch: Call[T]) -> None:
            if fetch.cancelled():
                _finish(arrived, None, ClosedError(f"store {store.name!r}"))
            elif (error := fetch.exception()) is not None:
                _finish(arrived, None, error)
            else:
                _finish(arrived, fetch.result(), None)

        there.add_done_callback(proceed)
        arrived.add_done_callback(lambda call: call.cancelled() and there.cancel())
        return arrived

    def outcome(self) -> T | Failure:
        """Return what the future was set to; it must have been.

        Raises:
            MissingObjectError: it was, and is gone.
        """
        store = self.store
        found = store._resolve(self.key, self._own_deserializer(), self.evict)
        if found is MISSING:
            raise self._missing()
        if type(found) is Failure:
            # Each who asks gets an exception of his own: raising one makes its traceback longer.
            store._fetcher.forget(store._own(self.key))
        return found  # type: ignore[no-any-return]

    def late(self, timeout: float | None) -> WaitTimeoutError:
        """Return the error for a result that did not come."""
        return WaitTimeoutError(f"the {self.__proxy_repr__()} (does its producer live?)", timeout)

    def _start(self) -> Call[T]:
        return self.arrive(seconds(self.timeout), self.take)

    def _fetch(self) -> T:
        self.wait(seconds(self.timeout))
        return self.take()

    def take(self) -> T:
        """Return the result of a future that was set, or raise its exception."""
        found = self.outcome()
        if isinstance(found, Failure):
            raise found.error
        return found

    def __proxy_repr__(self) -> str:
        return f"result of future {short(self.key)} in store {self.config.name!r}"


def seconds(timeout: float | None) -> float | None:
    """Return a timeout as connectors take it, for whom None and not infinity is for ever."""
    return None if timeout == math.inf else timeout


def _finish(call: Call[Any], result: Any, error: BaseException | None) -> None:
    if call.set_running_or_notify_cancel():  # else whoever waited has gone
        if error is None:
            call.set_result(result)
        else:
            call.set_exception(error)
