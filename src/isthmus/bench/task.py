"""What travels to a worker and what comes back: the wrapper that every task runs in.

Parents' results arrive as extra positional arguments, one for each distinct parent, and stand in the
arguments as :class:`Slot`. So an engine needs to understand futures only at the top level of a call,
however deep the application nested them.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import resource
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from isthmus.bench.nested import replace
from isthmus.codec.failures import Failure
from isthmus.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.bench.plugins import Filter, Transformer

__all__ = [
    "Failure",
    "Moved",
    "Outcome",
    "RunInfo",
    "Slot",
    "Task",
    "TaskFailed",
    "chosen",
    "run_task",
    "size_of",
]


class Slot(NamedTuple):
    """Stands for the result of a parent."""

    number: int


class Moved:
    """Stands for an object that a transformer took away."""

    __slots__ = ("identifier",)

    def __init__(self, identifier: Any) -> None:
        self.identifier = identifier

    def __reduce__(self) -> tuple[Any, ...]:
        return Moved, (self.identifier,)


class RunInfo(NamedTuple):
    """What a worker measured. Durations are monotonic; `started` is by the worker's own wall clock."""

    task_id: str
    started: float
    resolve_s: float
    execute_s: float
    transform_s: float
    cpu_s: float
    max_rss_bytes: int
    input_bytes: int
    output_bytes: int
    host: str
    pid: int
    worker: str


# Structs pickle in C, in and out: five microseconds less for a task than classes with `__reduce__`.


class Outcome(msgspec.Struct):
    """A task's value (or :class:`Moved`), and what was measured unless it was reported otherwise."""

    value: Any
    info: tuple[Any, ...] | None
    """The fields of a `RunInfo`, as the plain tuple that is quickest to pickle."""

    def __sizeof__(self) -> int:
        """Return the bytes with those of the value: Dask decides by them where tasks run."""
        sizeof = getattr(sys.modules.get("dask.sizeof"), "sizeof", sys.getsizeof)
        return object.__sizeof__(self) + int(sizeof(self.value))


class Task(msgspec.Struct):
    """A function and its arguments, in the form that travels, and how to resolve and transform."""

    id: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    slots: bool = False
    moved: bool = False
    transformer: Any = None
    filter: Any = None
    report: Any = None


class TaskFailed(Exception):  # noqa: N818 - a carrier, users meet the exception inside
    """Carries a task's own exception through an engine, with what was measured.

    Raised rather than returned: an engine must see that the task failed, for its retries and for the
    tasks that depend on it.
    """

    def __init__(self, task_id: str, failure: Failure, info: tuple[Any, ...]) -> None:
        super().__init__(task_id, failure, info)
        self.task_id = task_id
        self.failure = failure
        self.info = info

    def __str__(self) -> str:
        error = self.failure.error
        return f"task {self.task_id} raised {type(error).__name__}: {error}"


def run_task(task: Task, *parents: Outcome) -> Outcome:
    """Run a task in a worker: resolve its inputs, call it, transform its result, measure all three.

    Raises:
        TaskFailed: the function, or the resolving or transforming around it, raised.
    """
    watch = _Stopwatch()
    try:
        args, kwargs = task.args, task.kwargs
        if task.slots or task.moved:
            args, kwargs = _inputs(task, parents, watch)
        watch.resolved = time.perf_counter()
        value = task.function(*args, **kwargs)
        watch.executed = time.perf_counter()
        if task.transformer is not None and chosen(task.filter, value):
            value = Moved(task.transformer.transform(value))
            watch.output_bytes = size_of(task.transformer, value.identifier)
    except SystemExit as error:
        # Raised at the client it would end the benchmark, perhaps with status 0.
        stop = RemoteError("SystemExit", str(error)).with_traceback(error.__traceback__)
        raise TaskFailed(task.id, Failure(stop), watch.info(task.id)) from None
    except Exception as error:
        raise TaskFailed(task.id, Failure(error), watch.info(task.id)) from None
    info = watch.info(task.id)
    if task.report is None:
        return Outcome(value, info)
    task.report(info)
    return Outcome(value, None)


class _Stopwatch:
    """The times and bytes of one run of a task."""

    __slots__ = ("began", "cpu", "executed", "input_bytes", "output_bytes", "resolved", "started")

    def __init__(self) -> None:
        self.started = time.time()
        self.cpu = time.thread_time()
        self.input_bytes = self.output_bytes = 0
        self.resolved: float | None = None
        self.executed: float | None = None
        self.began = time.perf_counter()

    def info(self, task_id: str) -> tuple[Any, ...]:
        """Stop, and return the fields of a `RunInfo`. A phase that was not reached took no time."""
        now = time.perf_counter()
        resolved = now if self.resolved is None else self.resolved
        executed = now if self.executed is None else self.executed
        host, pid, worker = _whereabouts()
        return (
            task_id,
            self.started,
            resolved - self.began,
            executed - resolved,
            now - executed,
            time.thread_time() - self.cpu,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            self.input_bytes,
            self.output_bytes,
            host,
            pid,
            worker,
        )


@functools.cache
def _hostname() -> str:
    return socket.gethostname()


def _whereabouts() -> tuple[str, int, str]:
    thread = threading.current_thread()
    if thread is _MAIN:
        thread = multiprocessing.current_process()  # type: ignore[assignment]
    return _hostname(), os.getpid(), thread.name


_MAIN = threading.main_thread()


def _inputs(
    task: Task, parents: tuple[Outcome, ...], watch: _Stopwatch
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put parents' results into their slots, and bring back what was moved, each object once."""
    brought: dict[int, Any] = {}

    def bring(moved: Moved) -> Any:
        if task.transformer is None:
            raise RuntimeError(
                "an input was transformed, and this task has no transformer to resolve it"
            )
        if id(moved) not in brought:
            watch.input_bytes += size_of(task.transformer, moved.identifier)
            brought[id(moved)] = task.transformer.resolve(moved.identifier)
        return brought[id(moved)]

    def fill(slot: Slot) -> Any:
        value = parents[slot.number].value
        return bring(value) if type(value) is Moved else value

    args: Any = task.args
    kwargs: Any = task.kwargs
    if task.slots:
        args, kwargs = replace(args, Slot, fill), replace(kwargs, Slot, fill)
    if task.moved:  # only ever at the top level
        args = tuple(bring(a) if type(a) is Moved else a for a in args)
        kwargs = {k: bring(v) if type(v) is Moved else v for k, v in kwargs.items()}
    return args, kwargs


def chosen(filter: Filter | None, obj: Any) -> bool:
    """Return whether to transform an object; a proxy stands for one that is out of the way already."""
    from isthmus.proxy import is_proxy

    return not is_proxy(obj) and (filter is None or filter(obj))


def size_of(transformer: Transformer, identifier: Any) -> int:
    """Return the bytes behind an identifier, 0 where the transformer does not tell."""
    size = getattr(transformer, "size", None)
    return 0 if size is None else int(size(identifier))
