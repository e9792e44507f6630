"""The one bridge between synchronous code and asyncio: an event loop in a thread of its own.

Proxies resolve inside an attribute access, which cannot await; connections, brokers and agents are
asynchronous. Where the two meet, synchronous code hands a coroutine to `bridge` and waits for it, from any
thread. Nothing else in isthmus starts an event loop behind its user's back.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import queue
import threading
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.errors import LocalProtocolError, WaitTimeoutError
from isthmus.forking import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Coroutine, Iterator

__all__ = ["Bridge", "bridge"]

T = TypeVar("T")

log = logging.getLogger("isthmus.net")

LINGER = 5.0
"""Seconds that work underway has to end by itself when the interpreter exits, and then to be cancelled."""


class Bridge:
    """An event loop in a daemon thread, started when it is first needed and anew in a forked child.

    One per process is enough: `isthmus.net.bridge.bridge`. Work underway when the interpreter exits has
    five seconds to end; what is cancelled then is named in the log.
    """

    def __init__(self, name: str = "isthmus-bridge") -> None:
        self._name = name
        self._lock = threading.RLock()  # a finalizer may come in between, and start something
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._services: set[asyncio.Task[None]] = set()  # a loop knows its tasks only weakly

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine on the bridge's loop, wait, and return what it returns or raise what it raises.

        A `KeyboardInterrupt` while waiting cancels it, as the timeout does.

        Raises:
            WaitTimeoutError: it took longer than `timeout` seconds; it has been cancelled.
            LocalProtocolError: called by what runs on the bridge itself, which would wait for ever.
        """
        if self.here():
            work.close()
            raise LocalProtocolError(
                "cannot wait for the bridge on its own thread",
                "the loop that would do the work is the one that waits; await the coroutine instead",
            )
        future: Future[T] = Future()
        try:  # from here on, for an interrupt may come before the work is even begun
            self._begin(work, future, daemon=False)
            return future.result(timeout)
        except TimeoutError:
            if not future.cancel():
                return future.result()  # it came just now, or the timeout is its own
            raise WaitTimeoutError(_name(work), timeout) from None
        except BaseException:
            future.cancel()
            raise

    def start(self, work: Coroutine[Any, Any, T], *, daemon: bool = False) -> Future[T]:
        """Start a coroutine on the bridge's loop, from any thread; cancelling the future cancels it.

        Args:
            work: the coroutine.
            daemon: it serves others and has no end of its own: at exit it is cancelled without a word.
        """
        future: Future[T] = Future()
        self._begin(work, future, daemon)
        return future

    def iterate(self, items: AsyncIterable[T], prefetch: int = 16) -> Iterator[T]:
        """Iterate over what is asynchronous; up to `prefetch` items are fetched ahead.

        Closing the iterator, or leaving it behind, ends the asynchronous one too.

        Raises:
            LocalProtocolError: used on the bridge's own thread, or `prefetch` is no positive number.
        """
        if prefetch < 1:
            raise LocalProtocolError(
                f"cannot fetch {prefetch} items ahead", "at least one is needed"
            )
        arrived: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        room = asyncio.Semaphore(prefetch)

        async def fetch() -> None:
            iterator = aiter(items)
            try:
                async for item in iterator:
                    arrived.put((True, item))
                    await room.acquire()
                arrived.put((False, None))
            except asyncio.CancelledError:
                arrived.put((False, CancelledError()))
                raise
            except GeneratorExit:
                raise
            except BaseException as error:
                arrived.put((False, error))
            finally:
                if hasattr(iterator, "aclose"):
                    await iterator.aclose()

        async def begin() -> asyncio.Task[None]:
            return asyncio.get_running_loop().create_task(fetch())

        async def end(task: asyncio.Task[None]) -> None:
            task.cancel()
            await asyncio.wait([task])

        def make_room(n: int) -> None:
            for _ in range(n):
                room.release()

        task = self.run(begin())
        loop = task.get_loop()
        taken = 0
        try:
            while True:
                more, item = arrived.get()
                if not more:
                    if item is not None:
                        raise item
                    return
                taken += 1
                if taken * 2 >= prefetch:  # not for each: waking the loop costs more than an item
                    loop.call_soon_threadsafe(make_room, taken)
                    taken = 0
                yield item
        finally:
            if self.here():  # left behind, and collected on that thread
                task.cancel()
            elif not loop.is_closed():
                self.run(end(task))

    def here(self) -> bool:
        """Whether this is the bridge's own thread, where nothing may wait for it."""
        return self._thread is not None and self._thread is threading.current_thread()

    def stop(self, linger: float | None = None) -> None:
        """Give the work underway `linger` seconds (None: five) to end; cancel the rest and log its names.

        The thread ends. The bridge can be used again: it starts a new one.

        Raises:
            LocalProtocolError: called on the bridge's own thread.
        """
        if self.here():
            raise LocalProtocolError(
                "cannot stop the bridge on its own thread", "stop it elsewhere"
            )
        linger = LINGER if linger is None else linger
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        try:
            asyncio.run_coroutine_threadsafe(self._wind_up(linger), loop).result(
                2 * LINGER + linger
            )
        except TimeoutError:
            log.error("%s hangs: what runs there blocks its loop; it is left behind", self._name)
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LINGER + linger)
        if thread.is_alive():
            log.error(
                "%s: something there does not let itself be cancelled; it is left behind",
                self._name,
            )

    def _begin(self, work: Coroutine[Any, Any, T], future: Future[T], daemon: bool) -> None:
        with self._lock:  # so that `stop` finds it
            self._running().call_soon_threadsafe(self._launch, work, future, daemon)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            started: queue.SimpleQueue[asyncio.AbstractEventLoop] = queue.SimpleQueue()
            self._thread = threading.Thread(
                target=self._serve, args=(started,), name=self._name, daemon=True
            )
            self._thread.start()
            self._loop = started.get()
            _bridges.add(self)
            renew_after_fork(self)
        return self._loop

    def _serve(self, started: queue.SimpleQueue[asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            started.put(loop)
            loop.run_forever()

    def _launch(self, work: Coroutine[Any, Any, T], future: Future[T], daemon: bool) -> None:
        """On the loop: make a task of it, unless nobody wants it any more."""
        if future.cancelled():
            work.close()
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(_drive(work, future), name=_name(work))
        keep = self._services if daemon else self._work
        keep.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            keep.discard(task)
            work.close()  # had it been cancelled before it began
            future.cancel()  # no future stays undone; without effect on one that is

        def cancelled(future: Future[T]) -> None:
            if future.cancelled() and not task.done():
                loop.call_soon_threadsafe(task.cancel)

        task.add_done_callback(ended)
        future.add_done_callback(cancelled)

    async def _wind_up(self, linger: float) -> None:
        if self._work:
            await asyncio.wait(self._work, timeout=linger)
        late = [task for task in self._work if not task.done()]
        for task in late:
            log.warning("still underway at the end, and cancelled: %s", task.get_name())
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=linger or LINGER)

    def _forked(self) -> None:
        # The parent's loop stays untouched: its selector is shared, and closing it would unregister there.
        # It is kept, for a loop that goes away unclosed complains.
        _left.append((self._loop, self._thread))
        self._lock = threading.RLock()  # a finalizer may come in between, and start something
        self._loop = self._thread = None
        self._work = set()
        self._services = set()


async def _drive(work: Coroutine[Any, Any, T], future: Future[T]) -> None:
    try:
        result = await work
    except asyncio.CancelledError:
        future.cancel()
        raise
    except GeneratorExit:
        raise
    except BaseException as error:
        # An exit is the caller's, too: raised here, it would end the loop under all others.
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
    else:
        if future.set_running_or_notify_cancel():
            future.set_result(result)


def _name(work: object) -> str:
    return getattr(work, "__qualname__", type(work).__name__)


_left: list[object] = []
_bridges: set[Bridge] = set()

bridge = Bridge()
"""The bridge of this process."""


def _at_exit() -> None:
    for one in list(_bridges):
        one.stop()


atexit.register(_at_exit)
