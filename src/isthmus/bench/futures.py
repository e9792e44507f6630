"""The future of a task, and waiting for several."""

from __future__ import annotations

import concurrent.futures
import time
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from isthmus.bench.task import Moved, TaskFailed
from isthmus.errors import DependencyError, WaitTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from isthmus.bench.engine import Engine

__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "TaskFuture",
    "Waited",
    "as_completed",
    "wait",
]

T = TypeVar("T")


class TaskFuture(Generic[T]):
    """The result to come of a task; an argument of further tasks, at any depth of their arguments.

    Behaves as a ``concurrent.futures.Future``. A result that a transformer took away is brought back
    by :meth:`result`, not before; a task that takes this future gets it without a way through here.
    """

    __slots__ = (
        "__weakref__",
        "_engine",
        "_error",
        "_low",
        "_parents",
        "_resolved",
        "function",
        "input_transform_s",
        "submitted",
        "submitted_at",
        "task_id",
        "transformed_bytes",
    )

    def __init__(
        self,
        engine: Engine,
        task_id: str,
        function: Callable[..., Any],
    ) -> None:
        self._engine = engine
        self._low: Future[Any]
        self._resolved: T | Any = _UNRESOLVED
        self.task_id = task_id
        self.function = function
        self._error: BaseException | None = None
        self._parents: tuple[TaskFuture[Any], ...] = ()
        self.submitted = time.time()
        self.submitted_at = time.perf_counter()
        self.input_transform_s = 0.0
        self.transformed_bytes = 0

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<TaskFuture {self.task_id} of {function_name(self.function)}: {state}>"

    def result(self, timeout: float | None = None) -> T:
        """Wait for the task and return its result.

        Args:
            timeout: seconds.

        Raises:
            WaitTimeoutError: the task was not done in time.
            CancelledError: it was cancelled.
            DependencyError: a task that it needs failed.
            Exception: what the task raised, its remote traceback as its cause.
        """
        if self._resolved is not _UNRESOLVED:
            return self._resolved
        error = self.exception(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del error, self  # the traceback holds this frame: no cycle through it
        value = self._low.result().value
        if type(value) is Moved:
            value = self._engine.resolve(value.identifier)
        self._resolved = value
        return value  # type: ignore[no-any-return]

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the task and return what it raised, or None.

        Raises:
            WaitTimeoutError: the task was not done in time.
            CancelledError: it was cancelled.
        """
        try:
            error = self._low.exception(timeout)
        except concurrent.futures.TimeoutError:
            raise WaitTimeoutError(f"the result of task {self.task_id}", timeout) from None
        self._engine.finished(self)  # waiters wake before callbacks run: the record comes first
        return None if error is None else self._explain(error)

    def done(self) -> bool:
        """Return whether the task has ended, in whatever way."""
        return self._low.done()

    def running(self) -> bool:
        """Return whether the executor says that the task runs now."""
        return self._low.running()

    def cancelled(self) -> bool:
        """Return whether the task was cancelled."""
        return self._low.cancelled()

    def cancel(self) -> bool:
        """Cancel the task, unless it runs or is done; tasks that need it are cancelled too."""
        return self._low.cancel()

    def add_done_callback(self, callback: Callable[[TaskFuture[T]], object]) -> None:
        """Call `callback` with this future when the task has ended, on some thread."""
        self._low.add_done_callback(lambda _: callback(self))

    def _explain(self, error: BaseException) -> BaseException:
        """Return the error that the application should see for what the executor reported."""
        parents = self._parents  # before the look at what is known, see Engine.finished
        if self._error is None:
            self._error = _shown(error, self.task_id, parents)
        return self._error


def _shown(
    error: BaseException, task_id: str, parents: tuple[TaskFuture[Any], ...]
) -> BaseException:
    """Tell a task's own exception, a dependency's, and a failure of the executor apart."""
    if isinstance(error, TaskFailed) and error.task_id == task_id:
        return error.failure.error
    cause = error
    if isinstance(error, DependencyError) and error.__cause__ is not None:
        cause = error.__cause__
    elif not isinstance(error, TaskFailed):
        failed = (
            p for p in parents if p.done() and not p.cancelled() and p._low.exception() is not None
        )
        if next(failed, None) is None:
            return error
    name = "a task whose result it needs"
    if isinstance(cause, TaskFailed):
        name, cause = f"task {cause.task_id}", cause.failure.error
    shown = DependencyError(name, f"{type(cause).__name__}: {cause}")
    shown.__cause__ = cause
    return shown


_UNRESOLVED = object()


def function_name(function: Any) -> str:
    """Return ``module.qualname``, of the class for an instance, of the inner function for a partial."""
    try:
        return f"{function.__module__}.{function.__qualname__}"
    except AttributeError:
        pass
    while hasattr(function, "func") and not hasattr(function, "__qualname__"):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


class Waited(NamedTuple):
    """What `wait` found."""

    done: set[TaskFuture[Any]]
    not_done: set[TaskFuture[Any]]


def wait(
    futures: Iterable[TaskFuture[Any]],
    timeout: float | None = None,
    return_when: str = ALL_COMPLETED,
) -> Waited:
    """Wait for tasks; as ``concurrent.futures.wait``, `timeout` in seconds."""
    by_low = {f._low: f for f in futures}
    found = concurrent.futures.wait(by_low, timeout, return_when)
    for low in found.done:
        by_low[low]._engine.finished(by_low[low])
    return Waited({by_low[low] for low in found.done}, {by_low[low] for low in found.not_done})


def as_completed(
    futures: Iterable[TaskFuture[T]], timeout: float | None = None
) -> Iterator[TaskFuture[T]]:
    """Yield tasks as they end, cancelled ones too; as ``concurrent.futures.as_completed``.

    Raises:
        WaitTimeoutError: `timeout` seconds after the call, not all had ended.
    """
    by_low = {f._low: f for f in futures}
    try:
        for low in concurrent.futures.as_completed(by_low, timeout):
            by_low[low]._engine.finished(by_low[low])
            yield by_low[low]
    except concurrent.futures.TimeoutError:
        left = sum(not low.done() for low in by_low)
        raise WaitTimeoutError(f"{left} of {len(by_low)} tasks", timeout) from None
