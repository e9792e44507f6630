"""Parsl: a data-flow kernel of its own, over threads of this process or worker processes of this host.

Futures as arguments are Parsl's own dependencies: the kernel is told how to look into ours. What a
worker measures comes back beside the result, so a record costs no unpickling of the task's result.
"""

from __future__ import annotations

import logging
import shutil
import socket
import tempfile
import threading
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from isthmus.bench.executor.dependency import failure_of
from isthmus.bench.executor.parsl_call import Input, Report, Value, filled, pack, run_packed
from isthmus.bench.nested import replace
from isthmus.bench.task import RunInfo
from isthmus.errors import BrokenError, ClosedError, DependencyError, RemoteError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ParslExecutor"]

_LABEL = "isthmus"
_START_SECONDS = 120.0


class ParslExecutor(Executor):
    """Submits to a data-flow kernel of Parsl that nobody else uses. See `threads` and `htex`.

    Args:
        executor: Parsl's executor, labelled ``isthmus``; the kernel starts and ends it.
        retries: how often Parsl repeats a task that failed, for whatever reason.
        run_dir: where Parsl's files go; None for a temporary folder, deleted at the end.
        log: whether Parsl writes its own log of this process there.

    Raises:
        MissingExtraError: Parsl is not installed.
        BrokenError: it does not start.
    """

    dataflow = True

    def __init__(
        self, executor: Any, *, retries: int = 0, run_dir: str | None = None, log: bool = False
    ) -> None:
        self._executor = executor
        self._closed = False
        self._lock = threading.Condition()
        self._unfinished: set[ParslFuture] = set()
        self._reports: dict[str, RunInfo] = {}
        self.remote = hasattr(executor, "provider")
        self._temporary = tempfile.mkdtemp(prefix="isthmus-parsl-") if run_dir is None else None
        if self.remote:
            self.report = Report()
        try:
            self.kernel = _kernel(executor, retries, run_dir or self._temporary, log)
        except BaseException as error:
            self._remove_files()
            if isinstance(error, Exception):
                raise BrokenError("Parsl does not start", error) from error
            raise

    @classmethod
    def threads(cls, max_threads: int, **options: Any) -> ParslExecutor:
        """Make one over Parsl's thread pool.

        Args:
            max_threads: workers.
            options: as the constructor's.
        """
        require("parsl", extra="parsl", what="the parsl-thread executor")
        from parsl.executors.threads import ThreadPoolExecutor

        # The name by which `isthmus bench` knows threads that nothing can interrupt.
        threads = ThreadPoolExecutor(
            label=_LABEL, max_threads=max_threads, thread_name_prefix="isthmus-worker"
        )
        return cls(threads, **options)

    @classmethod
    def htex(
        cls,
        workers: int,
        *,
        native_threads: int = 1,
        address: str = "127.0.0.1",
        worker_ports: tuple[int, int] = (54000, 55000),
        interchange_ports: tuple[int, int] = (55000, 56000),
        prefetch_capacity: int = 0,
        heartbeat_period: int = 1,
        encrypted: bool = True,
        **options: Any,
    ) -> ParslExecutor:
        """Make one over Parsl's high-throughput executor; returns when a worker has answered.

        Args:
            workers: processes on this host.
            native_threads: threads that numeric libraries may start in a worker; 0 leaves them alone.
            address: that workers connect to, and the only one that Parsl listens at for them.
            worker_ports: first and last port to choose from for that.
            interchange_ports: the same, of the loopback interface, for Parsl's own processes.
            prefetch_capacity: tasks that wait beside busy workers rather than in Parsl's queue.
            heartbeat_period: seconds until the death of a worker is noticed.
            encrypted: whether Parsl's connections are, with keys made for this run: without, whoever
                reaches a port can have code run.
            options: as the constructor's.

        Raises:
            BrokenError: no worker started (the message has what it said), or the address is not ours.
        """
        require("parsl", extra="parsl", what="the parsl-htex executor")
        from isthmus.bench.executor.parsl_htex import ChildProvider, WatchedHTEX

        _check(address)
        htex = WatchedHTEX(
            ChildProvider(workers, native_threads),
            label=_LABEL,
            address=address,
            worker_port_range=worker_ports,
            interchange_port_range=interchange_ports,
            max_workers_per_node=workers,
            prefetch_capacity=prefetch_capacity,
            heartbeat_period=heartbeat_period,
            encrypted=encrypted,
        )
        made = cls(htex, **options)
        try:
            htex.scale_out_facade(1)
            made.submit(bool).result(_START_SECONDS)
        except BaseException as error:
            made.abort()
            if isinstance(error, BrokenError) or not isinstance(error, Exception):
                raise
            raise BrokenError("Parsl's workers do not start", error) from error
        return made

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call; futures of this executor may lie anywhere in its arguments.

        Raises:
            ClosedError: the executor was shut down.
        """
        if self._closed:
            raise ClosedError("the Parsl executor")
        parents: dict[ParslFuture, Input] = {}

        def place(parent: ParslFuture) -> Input:
            return parents.setdefault(parent, Input(len(parents)))

        args = tuple(replace(a, ParslFuture, place) for a in args)
        kwargs = {k: replace(v, ParslFuture, place) for k, v in kwargs.items()}
        future = ParslFuture(self, tuple(parents))
        with self._lock:
            self._unfinished.add(future)
        if not all(parent.adopt(future) for parent in parents):
            future.cancel()
            return future
        try:
            if self.remote:
                self._launch(future, run_packed, pack((function, args, kwargs)))
            else:
                self._launch(future, _run_here, _Here(future, function, args, kwargs))
        except Exception as error:  # of arguments that cannot travel, above all
            future.fail(error)
        return future

    def reported(self, task_id: str) -> RunInfo | None:
        """Return, once, what the worker measured of a task; None if it never said."""
        return self._reports.pop(task_id, None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish or cancel what was submitted, then end workers, kernel and their files."""
        if self._closed:
            return
        self._closed = True
        if cancel_futures or not wait:
            for future in list(self._unfinished):
                future.cancel()
        if wait:
            with self._lock:
                self._lock.wait_for(lambda: not self._unfinished)
        if wait or self.remote:
            self._clean_up()
        else:  # Parsl would wait for what runs in its threads
            threading.Thread(target=self._clean_up, name="isthmus-parsl-end", daemon=True).start()

    def abort(self) -> None:
        """Cancel everything; worker processes are killed with what they run."""
        if self.remote and not self._closed:
            self._executor.provider.kill()
        self.shutdown(wait=False, cancel_futures=True)

    def measured(self, info: tuple[Any, ...]) -> None:
        """Take note of what a worker measured."""
        self._reports[info[0]] = RunInfo._make(info)

    def forget(self, future: ParslFuture) -> None:
        """Take note that a task has ended."""
        with self._lock:
            self._unfinished.discard(future)
            self._lock.notify_all()

    def _launch(self, future: ParslFuture, run: Callable[..., Any], call: Any) -> None:
        with self._lock:  # Parsl counts its tasks without one
            native = self.kernel.submit(
                run,
                app_args=(_Unless(future, call), *future.parents),
                executors=[_LABEL],
                cache=False,
                ignore_for_cache=None,
                app_kwargs={},
            )
        native.add_done_callback(future.ended)

    def _clean_up(self) -> None:
        try:
            self.kernel.cleanup()
        finally:
            if self.remote:  # of an executor that broke, Parsl leaves the workers behind
                self._executor.provider.cancel(list(self._executor.provider.resources))
            self._remove_files()

    def _remove_files(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


class ParslFuture(Future[Any]):
    """A future that can be cancelled, and the result of whose task is unpickled when asked for."""

    def __init__(self, owner: ParslExecutor, parents: tuple[ParslFuture, ...]) -> None:
        super().__init__()
        self._owner = owner
        self._gate = threading.Lock()
        self._over = False  # set by whoever ends this future, once
        self._children: list[ParslFuture] = []
        self.parents = parents

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task and return its result."""
        value = super().result(timeout)
        return value.get() if type(value) is Value else value

    def input(self) -> Any:
        """Return the result of an ended task in the form in which it travels to the next."""
        value = super().result(0)
        return value.packed() if type(value) is Value else value

    def cancel(self) -> bool:
        """Cancel the task and those that need it. One that a worker process has may run to its end."""
        pending = [self]
        while pending:  # no recursion: chains are long
            future = pending.pop()
            with future._gate:
                if future._over or future.running():
                    continue
                future._over = True
                children, future._children = future._children, []
            super(ParslFuture, future).cancel()
            future.set_running_or_notify_cancel()  # else `concurrent.futures.wait` goes on waiting
            future._ended()
            pending += children
        return self.cancelled()

    def adopt(self, child: ParslFuture) -> bool:
        """Take note of a task that needs this one; False if it never can have it."""
        with self._gate:
            if not self._over:
                self._children.append(child)
        return not self.cancelled()

    def begin(self) -> bool:
        """Say that the task runs now, perhaps again; False if it was cancelled."""
        with self._gate:
            if self._over:
                return False
            if not self.running():
                self.set_running_or_notify_cancel()
            return True

    def ended(self, native: Any) -> None:
        """Take over how Parsl's future ended (called on a thread of Parsl's)."""
        error = native.exception()
        if error is not None:
            self.fail(_told(error, self.parents))
            return
        value, info = native.result()
        if self._owner.remote:
            value = Value(value)
        if self._takes_end():
            if info is not None:
                self._owner.measured(info)  # before anybody wakes up
            self.set_result(value)
        self._ended()

    def fail(self, error: BaseException) -> None:
        """End the task with an error."""
        if self._takes_end():
            self.set_exception(error)
        self._ended()

    def _takes_end(self) -> bool:
        with self._gate:
            if self._over:
                return False
            self._over = True
            self._children = []
            if not self.running():
                self.set_running_or_notify_cancel()
            return True

    def _ended(self) -> None:
        self.parents = ()  # else every ancestor's result lives on
        self._owner.forget(self)


class _Unless:
    """An argument that Parsl asks for right before it launches the task, unless it was cancelled."""

    def __init__(self, future: ParslFuture, call: Any) -> None:
        self.future = future
        self.call = call

    def take(self) -> Any:
        if self.future.cancelled():
            raise CancelledError
        return self.call


class _Here:
    """A call in this process, hidden from Parsl, which would ask each argument whether it is a file."""

    def __init__(
        self, future: ParslFuture, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        self.future = future
        self.function = function
        self.args = args
        self.kwargs = kwargs


def _run_here(call: _Here, *inputs: Any) -> tuple[Any, None]:
    """Run a call; in a pair, for of a result Parsl asks whether it is an exception in disguise."""
    if not call.future.begin():
        raise CancelledError
    args = [filled(arg, inputs) for arg in call.args]
    kwargs = {name: filled(arg, inputs) for name, arg in call.kwargs.items()}
    return call.function(*args, **kwargs), None


def _kernel(executor: Any, retries: int, run_dir: str | None, log: bool) -> Any:
    """Start a kernel, which is not the process's global one."""
    from parsl.config import Config
    from parsl.dataflow.dependency_resolvers import DependencyResolver
    from parsl.dataflow.dflow import DataFlowKernel

    logger = logging.getLogger("parsl")
    if logger.level == logging.NOTSET:
        # It logs the traceback of every failed task, and a warning for each argument above 1 MB. What
        # matters arrives as an exception; everything is in its own log.
        logger.setLevel(logging.CRITICAL)
    return DataFlowKernel(
        Config(
            executors=[executor],
            dependency_resolver=DependencyResolver(_gather, _unwrap),
            retries=retries,
            run_dir=run_dir,
            initialize_logging=log,
            strategy="none",
            strategy_period=1,
            monitoring=None,
            usage_tracking=0,
        )
    )


def _check(address: str) -> None:
    """Find out now whether an address is of this host: Parsl would, in two minutes."""
    try:
        family = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError as error:
        raise BrokenError(
            f"Parsl cannot listen at {address}",
            f"{error.strerror}; name an address of this host, such as 127.0.0.1",
        ) from error


def _gather(arg: Any) -> list[Future[Any]]:
    return [arg] if type(arg) is ParslFuture else []


def _unwrap(arg: Any) -> Any:
    if type(arg) is ParslFuture:
        return arg.input()
    return arg.take() if type(arg) is _Unless else arg


def _told(error: BaseException, parents: tuple[ParslFuture, ...]) -> BaseException:
    """Return the error of isthmus for one of Parsl's; a task's own as it is."""
    from parsl.dataflow.errors import DependencyError as ParslDependencyError
    from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
    from parsl.serialize.errors import DeserializationError, SerializationError

    if isinstance(error, ParslDependencyError):
        failures = (failure_of(parent) for parent in parents)
        failure = next((f for f in failures if f is not None), None)
        return failure or DependencyError("a task whose result it needs", error)
    told: BaseException
    if isinstance(error, WorkerLost | ManagerLost):
        told = BrokenError("Parsl", f"the worker that had the task died ({error})")
    elif isinstance(error, SerializationError | DeserializationError):
        told = RemoteError(type(error).__name__, str(error))
    else:
        return error
    told.__cause__ = error
    return told
