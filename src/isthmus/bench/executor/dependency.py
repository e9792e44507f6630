"""Data-flow dependencies for executors that have none: a task waits until its inputs are there.

Nothing blocks. A call whose futures are all done goes straight to the executor beneath, and its own
future comes back. One with unfinished futures gets a future of ours, and the last input to finish
submits it from its callback. Failures settle on a queue, not by recursion, so that a chain of ten
thousand waiting tasks fails as well as a short one.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from isthmus.bench.nested import may_hold, replace
from isthmus.errors import ClosedError, DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.bench import plugins

__all__ = ["FutureDependencyExecutor", "failure_of"]


class FutureDependencyExecutor(Executor):
    """Wraps an executor so that futures are allowed in arguments, nested in containers too.

    A call whose input failed is not run: its future raises :class:`DependencyError` from that failure.
    One whose input was cancelled is cancelled.

    Args:
        executor: any ``concurrent.futures.Executor``; shut down together with this one.
    """

    dataflow = True

    def __init__(self, executor: plugins.Executor) -> None:
        self.executor = executor
        self._lock = threading.Condition()
        self._delayed: set[_Delayed] = set()
        self._closed = False
        self._left_behind = False
        self._ready: deque[_Delayed] = deque()
        self._settling = threading.local()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call for when every future in its arguments is done.

        Raises:
            ClosedError: `shutdown` was called.
        """
        inputs: set[Future[Any]] = set()
        for arg in (*args, *kwargs.values()) if kwargs else args:
            kind: Any = type(arg)
            if may_hold(kind, Future):
                replace(arg, Future, inputs.add)
        if self._closed:
            raise ClosedError("the executor")
        if not inputs:
            return self.executor.submit(function, *args, **kwargs)
        delayed = _Delayed(self, function, args, kwargs, list(inputs))
        with self._lock:
            self._delayed.add(delayed)
        delayed.start()
        return delayed

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; with `wait`, return when the delayed ones have run too."""
        with self._lock:
            self._closed = True
            delayed = list(self._delayed)
        if cancel_futures:
            for future in delayed:
                future.cancel()
        if wait:
            with self._lock:
                self._lock.wait_for(lambda: not self._delayed)
        with self._lock:
            # With delayed calls left, the last of them to go shuts the executor beneath.
            self._left_behind = bool(self._delayed)
        if not self._left_behind:
            self.executor.shutdown(wait=wait, cancel_futures=cancel_futures)

    def abort(self) -> None:
        """Cancel what has not started and, where the executor can, kill what has."""
        with self._lock:
            self._closed = True
            delayed = list(self._delayed)
        for future in delayed:
            future.cancel()
        abort = getattr(self.executor, "abort", None)
        if abort is not None:
            abort()
        else:
            self.executor.shutdown(wait=False, cancel_futures=True)

    def _settle(self, delayed: _Delayed) -> None:
        """Submit or fail a call whose inputs are done, and those that its failing makes ready."""
        self._ready.append(delayed)
        if getattr(self._settling, "busy", False):
            return  # a frame below this one, in this thread, goes on with the queue
        self._settling.busy = True
        try:
            while self._ready:
                try:
                    ready = self._ready.popleft()
                except IndexError:  # another thread took it
                    break
                ready.settle()
        finally:
            self._settling.busy = False

    def _forget(self, delayed: _Delayed) -> None:
        with self._lock:
            self._delayed.discard(delayed)
            last = not self._delayed
            if last:
                self._lock.notify_all()
        if last and self._left_behind:
            self.executor.shutdown(wait=False)


class _Delayed(Future[Any]):
    """The future of a call that waits for its inputs."""

    def __init__(
        self,
        owner: FutureDependencyExecutor,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        inputs: list[Future[Any]],
    ) -> None:
        super().__init__()
        self._owner = owner
        self._call: tuple[Any, ...] | None = (function, args, kwargs)
        self._inputs = inputs
        self._missing = len(inputs)
        self._inner: Future[Any] | None = None
        self._gate = threading.Lock()

    def start(self) -> None:
        for future in self._inputs:
            future.add_done_callback(self._one_done)

    def cancel(self) -> bool:
        """Cancel the call, if it has not begun to run."""
        if self._claim() is not None:
            self._end_cancelled()
            self._owner._forget(self)
            return True
        inner = self._inner
        return self.cancelled() if inner is None else inner.cancel()  # its callback ends this one

    def _claim(self) -> tuple[Any, ...] | None:
        """Take the call: one caller gets it, and ends the waiting by submitting, failing, cancelling."""
        with self._gate:
            call, self._call = self._call, None
        return call

    def _end_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()  # without this `concurrent.futures.wait` goes on waiting

    def _one_done(self, _: Future[Any]) -> None:
        with self._gate:
            self._missing -= 1
            if self._missing:
                return
        self._owner._settle(self)

    def settle(self) -> None:
        """Every input is done: submit the call, or fail as an input did."""
        call = self._claim()
        if call is None:
            return
        inputs, self._inputs = self._inputs, []
        failure = next((e for e in map(failure_of, inputs) if e is not None), None)
        if failure is None:
            try:
                self._inner = self._submit(*call)
            except BaseException as error:
                failure = error
        if self._inner is not None:
            self._inner.add_done_callback(self._copy)
        elif isinstance(failure, CancelledError):
            self._end_cancelled()
        else:
            self.set_running_or_notify_cancel()
            self.set_exception(failure)
        self._owner._forget(self)

    def _submit(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Future[Any]:
        args = tuple(replace(a, Future, lambda f: f.result()) for a in args)
        kwargs = {k: replace(v, Future, lambda f: f.result()) for k, v in kwargs.items()}
        return self._owner.executor.submit(function, *args, **kwargs)

    def _copy(self, inner: Future[Any]) -> None:
        if inner.cancelled():
            self._end_cancelled()
        elif self.set_running_or_notify_cancel():
            error = inner.exception()
            if error is None:
                self.set_result(inner.result())
            else:
                self.set_exception(error)


def failure_of(future: Future[Any]) -> BaseException | None:
    """Return how an input that is done keeps a task from being run; None if it does not."""
    if future.cancelled():
        return CancelledError()
    error = future.exception()
    if error is None or isinstance(error, DependencyError):
        return error  # the first task that failed is the one to name
    failed = DependencyError("a task whose result it needs", f"{type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
