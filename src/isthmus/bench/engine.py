"""The engine: what an application submits its tasks to, over any executor.

It adds to an executor what benchmarks need: data taken out of the way by a transformer, futures as
arguments at any depth, and a record of every task.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.bench.executor.dependency import FutureDependencyExecutor
from isthmus.bench.futures import TaskFuture, function_name, wait
from isthmus.bench.nested import replace
from isthmus.bench.records import TaskRecord
from isthmus.bench.task import Moved, RunInfo, Slot, Task, TaskFailed, chosen, run_task, size_of
from isthmus.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import ParamSpec, Self

    from isthmus.bench.plugins import Executor, Filter, RecordLogger, Transformer

    P = ParamSpec("P")

__all__ = ["Engine"]

T = TypeVar("T")


class Engine:
    """Runs tasks on an executor, as an executor.

    Args:
        executor: any ``concurrent.futures.Executor``; one that does not say ``dataflow = True`` gets
            a :class:`FutureDependencyExecutor` around it. Shut down by `close`.
        transformer: takes arguments and results out of the executor's way; closed by `close`.
        filter_: chooses what is transformed; without one, everything is.
        record_logger: gets a record of each task; closed by `close`.
    """

    def __init__(
        self,
        executor: Executor,
        transformer: Transformer | None = None,
        filter_: Filter | None = None,
        record_logger: RecordLogger | None = None,
    ) -> None:
        if not getattr(executor, "dataflow", False):
            executor = FutureDependencyExecutor(executor)
        self.executor = executor
        self.transformer = transformer
        self.filter = filter_
        self.record_logger = record_logger
        # An executor with a channel of its own for what workers measure keeps results where they are.
        self._report = getattr(executor, "report", None)
        self._prefix = os.urandom(4).hex()
        self._numbers = itertools.count(1)
        self._unfinished: dict[str, TaskFuture[Any]] = {}
        self._lock = threading.Lock()
        self._finished = 0
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @property
    def tasks_executed(self) -> int:
        """How many tasks have ended, in whatever way."""
        return self._finished

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Schedule ``function(*args, **kwargs)`` for when the tasks whose futures it takes are done.

        Raises:
            ClosedError: the engine is closed.
        """
        if self._closed:
            raise ClosedError("the engine")
        task_id = f"{self._prefix}-{next(self._numbers)}"
        parents: dict[TaskFuture[Any], Slot] = {}
        future: TaskFuture[T] = TaskFuture(self, task_id, function)
        if args or kwargs:
            args, kwargs, moved = self._prepare(future, args, kwargs, parents)
        else:
            moved = False
        task = Task(
            task_id,
            function,
            args,
            kwargs,
            slots=bool(parents),
            moved=moved,
            transformer=self.transformer,
            filter=self.filter,
            report=self._report,
        )
        if parents:
            future._parents = tuple(parents)
        future._low = self.executor.submit(run_task, task, *[p._low for p in parents])
        self._unfinished[task_id] = future
        future._low.add_done_callback(lambda _: self.finished(future))
        return future

    def map(
        self,
        function: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Iterator[T]:
        """Submit a call for each tuple of items at once; yield the results in order.

        Args:
            function: called with one item of each iterable.
            iterables: as many as the function has arguments.
            timeout: seconds from now for all of them.
            chunksize: for compatibility; each call is a task of its own, with a record of its own.

        Raises:
            WaitTimeoutError: a result did not come in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        futures = [self.submit(function, *items) for items in zip(*iterables, strict=False)]

        def results() -> Iterator[T]:
            try:
                futures.reverse()
                while futures:  # popped, so that a result can be freed once it was taken
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    yield futures.pop().result(left)
            finally:
                for future in futures:
                    future.cancel()

        return results()

    def resolve(self, identifier: Any) -> Any:
        """Return the object that the transformer took away."""
        if self.transformer is None:
            raise RuntimeError("a result was transformed, and this engine has no transformer")
        return self.transformer.resolve(identifier)

    def close(self) -> None:
        """Wait for every task, then shut down the executor, the records and the transformer."""
        if self._closed:
            return
        self._closed = True
        try:
            wait(list(self._unfinished.values()))
            self.executor.shutdown(wait=True)
        except BaseException:  # Ctrl-C while waiting, above all
            self._stop_executor()
            raise
        finally:
            self._close_plugins()

    def abort(self) -> None:
        """Cancel what has not started, kill what runs where the executor can, and close.

        Called when the block raises: an interrupted benchmark must not wait for its longest task.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._stop_executor()
        finally:
            self._close_plugins()

    def finished(self, future: TaskFuture[Any]) -> None:
        """Count and record a task that has ended; the first call for it does, later ones do nothing."""
        if self._unfinished.pop(future.task_id, None) is None:
            return
        with self._lock:
            self._finished += 1
        info, error = self._outcome(future)
        # Cut the chain, else every ancestor's result lives on; the error was told from it already.
        parents, future._parents = future._parents, ()
        if self.record_logger is not None:
            self.record_logger.log(_record(future, parents, info, error))

    def _prepare(
        self,
        future: TaskFuture[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parents: dict[TaskFuture[Any], Slot],
    ) -> tuple[tuple[Any, ...], dict[str, Any], bool]:
        """Put slots where futures are, and take away what the filter chooses."""
        args = replace(args, TaskFuture, lambda f: _slot(parents, f))
        kwargs = replace(kwargs, TaskFuture, lambda f: _slot(parents, f))
        if self.transformer is None:
            return args, kwargs, False
        begin = time.perf_counter()
        before = args, kwargs
        args = tuple(self._transformed(future, a) for a in args)
        kwargs = {k: self._transformed(future, v) for k, v in kwargs.items()}
        future.input_transform_s = time.perf_counter() - begin
        moved = any(type(a) is Moved for a in (*args, *kwargs.values()))
        return (args, kwargs, True) if moved else (*before, False)

    def _transformed(self, future: TaskFuture[Any], arg: Any) -> Any:
        slots: list[Slot] = []
        replace(arg, Slot, slots.append)
        # What holds slots stays: most of it is not here yet.
        if slots or self.transformer is None or not chosen(self.filter, arg):
            return arg
        moved = Moved(self.transformer.transform(arg))
        future.transformed_bytes += size_of(self.transformer, moved.identifier)
        return moved

    def _outcome(self, future: TaskFuture[Any]) -> tuple[RunInfo | None, str]:
        """Return what the worker measured, None if nothing is known, and how the task failed."""
        low = future._low
        try:
            error = low.exception()
        except CancelledError:
            return None, CancelledError.__name__
        if error is not None:
            shown = future._explain(error)
            text = f"{type(shown).__name__}: {shown}"
            if isinstance(error, TaskFailed) and error.task_id == future.task_id:
                return RunInfo._make(error.info), text
            return None, text
        if self._report is not None:
            return self.executor.reported(future.task_id), ""  # type: ignore[attr-defined]
        outcome = low.result()
        info, outcome.info = (
            outcome.info,
            None,
        )  # a child that takes the outcome needs the value only
        return None if info is None else RunInfo._make(info), ""

    def _stop_executor(self) -> None:
        abort = getattr(self.executor, "abort", None)
        if abort is not None:
            abort()
        else:
            self.executor.shutdown(wait=False, cancel_futures=True)

    def _close_plugins(self) -> None:
        try:
            if self.record_logger is not None:
                self.record_logger.close()
        finally:
            if self.transformer is not None:
                self.transformer.close()


def _slot(parents: dict[TaskFuture[Any], Slot], future: TaskFuture[Any]) -> Slot:
    return parents.setdefault(future, Slot(len(parents)))


def _record(
    future: TaskFuture[Any], parents: tuple[TaskFuture[Any], ...], info: RunInfo | None, error: str
) -> TaskRecord:
    if info is None:
        info = _NOTHING
    return TaskRecord(
        task_id=future.task_id,
        function=function_name(future.function),
        parents=[p.task_id for p in parents],
        submitted=future.submitted,
        finished=time.time(),
        success=not error,
        error=error,
        started=info.started,
        latency_s=time.perf_counter() - future.submitted_at,
        input_transform_s=future.input_transform_s,
        input_resolve_s=info.resolve_s,
        execute_s=info.execute_s,
        result_transform_s=info.transform_s,
        cpu_s=info.cpu_s,
        max_rss_bytes=info.max_rss_bytes,
        transformed_bytes=future.transformed_bytes,
        input_bytes=info.input_bytes,
        output_bytes=info.output_bytes,
        host=info.host,
        pid=info.pid,
        worker=info.worker,
    )


_NOTHING = RunInfo("", 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, "", 0, "")
