"""Dask Distributed: futures as arguments are Dask's own, and results stay on the workers.

What a worker measures comes back as an event on the connection that also says that the task is done,
in front of it, so a record costs no transfer of the task's result.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from concurrent.futures import CancelledError, Executor, Future
from typing import TYPE_CHECKING, Any

from isthmus.bench.nested import replace
from isthmus.bench.task import RunInfo
from isthmus.errors import BrokenError, ClosedError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DaskExecutor"]


class DaskExecutor(Executor):
    """Submits to a Dask cluster.

    Results are never cached: each call is a task of its own (``pure=False``), which also keeps Dask
    from looking into arguments to name the task, and so from resolving a proxy on the client.

    Args:
        client: a synchronous ``distributed.Client``; closed by `shutdown`.
        cluster: closed after the client, if there is one.
    """

    dataflow = True

    def __init__(self, client: Any, cluster: Any = None) -> None:
        self.client = client
        self.cluster = cluster
        self._closed = False
        self._lock = threading.Condition()
        self._unfinished: set[DaskFuture] = set()
        self._reports: dict[str, RunInfo] = {}
        self._topic = f"isthmus-{uuid.uuid4().hex[:12]}"
        self.report = _Report(self._topic)
        client.subscribe_topic(self._topic, self._reported)

    @classmethod
    def local(
        cls,
        workers: int,
        *,
        use_threads: bool = False,
        native_threads: int = 1,
        dashboard_address: str | None = None,
    ) -> DaskExecutor:
        """Start a cluster on this host, one thread a worker process, or one process with threads."""
        distributed = require("distributed", extra="dask", what="the dask executor")
        dask = require("dask", extra="dask", what="the dask executor")
        from isthmus.bench.executor.native_threads import environment

        settings: dict[str, Any] = {
            "distributed.nanny.pre-spawn-environ": environment(native_threads)
        }
        if not native_threads:
            settings = {"distributed.nanny.pre-spawn-environ": {}}
        with dask.config.set(settings):
            cluster = distributed.LocalCluster(
                n_workers=1 if use_threads else workers,
                threads_per_worker=workers if use_threads else 1,
                processes=not use_threads,
                # The scheduler listens for HTTP even without a dashboard; not on the one fixed port.
                dashboard_address=dashboard_address or ":0",
                scheduler_kwargs={"dashboard": dashboard_address is not None},
            )
        return cls(distributed.Client(cluster), cluster)

    @classmethod
    def connect(cls, address: str, *, timeout: float = 30.0) -> DaskExecutor:
        """Use a scheduler that runs.

        Args:
            address: ``tcp://host:port``.
            timeout: seconds.

        Raises:
            BrokenError: nothing answered.
        """
        distributed = require("distributed", extra="dask", what="the dask executor")
        try:
            return cls(distributed.Client(address, timeout=timeout))
        except OSError as error:
            raise BrokenError(f"no Dask scheduler answered at {address}", error) from None

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call; futures of this executor may lie anywhere in its arguments.

        Raises:
            ClosedError: the executor was shut down.
        """
        if self._closed:
            raise ClosedError("the Dask executor")
        args = tuple(replace(a, DaskFuture, _native) for a in args)
        kwargs = {k: replace(v, DaskFuture, _native) for k, v in kwargs.items()}
        future = DaskFuture(self, self.client.submit(function, *args, pure=False, **kwargs))
        with self._lock:
            self._unfinished.add(future)
        future.native.add_done_callback(future.ended)
        return future

    def reported(self, task_id: str) -> RunInfo | None:
        """Return, once, what the worker measured of a task; None if it never said."""
        return self._reports.pop(task_id, None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish or cancel what was submitted, then close the client and a cluster of our own."""
        if self._closed:
            return
        self._closed = True
        if cancel_futures or not wait:
            for future in list(self._unfinished):
                future.cancel()
        with self._lock:
            self._lock.wait_for(lambda: not self._unfinished, timeout=None if wait else 5.0)
        with contextlib.suppress(Exception):  # a scheduler that is gone needs no goodbye
            self.client.unsubscribe_topic(self._topic)
        self.client.close()
        if self.cluster is not None:
            self.cluster.close()

    def abort(self) -> None:
        """Cancel everything; a local cluster's worker processes are killed with what they run."""
        for nanny in getattr(self.cluster, "workers", {}).values():
            pid = getattr(nanny, "pid", None)
            if pid:
                nanny.auto_restart = False  # asked to close, a worker waits for its task to end
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.shutdown(wait=False, cancel_futures=True)

    def forget(self, future: DaskFuture) -> None:
        """Take note that a task has ended."""
        with self._lock:
            self._unfinished.discard(future)
            self._lock.notify_all()

    def _reported(self, event: tuple[float, list[Any]]) -> None:
        info = RunInfo._make(event[1])
        self._reports[info.task_id] = info


class _Report:
    """Runs on the worker: sends what was measured as an event."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def __call__(self, info: tuple[Any, ...]) -> None:
        from distributed import get_worker

        get_worker().log_event(self.topic, list(info))


class DaskFuture(Future[Any]):
    """A future that the standard library can wait for; the result is fetched when asked for."""

    def __init__(self, owner: DaskExecutor, native: Any) -> None:
        super().__init__()
        self._owner = owner
        self._open = threading.Lock()  # taken for good by whoever ends this future
        self.native = native

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task and fetch its result to this process."""
        super().result(timeout)
        return self.native.result()

    def cancel(self) -> bool:
        """Cancel the task; those that need it are cancelled by Dask."""
        if self._ends_here():
            self._end_cancelled()
            self.native.cancel(force=True)
        return self.cancelled()

    def ended(self, native: Any) -> None:
        """Take over how the native future ended (Dask calls this on a thread of its own)."""
        try:
            error = native.exception() if native.status == "error" else None
            if not self._ends_here():
                return
            if error is None and native.status != "finished":
                self._end_cancelled()
                return
            self.set_running_or_notify_cancel()
            if error is None:
                self.set_result(None)
            else:
                self.set_exception(error)
        finally:
            self._owner.forget(self)

    def _ends_here(self) -> bool:
        return self._open.acquire(blocking=False)

    def _end_cancelled(self) -> None:
        super().cancel()
        self.set_running_or_notify_cancel()  # without this `concurrent.futures.wait` goes on waiting


def _native(future: DaskFuture) -> Any:
    if future.cancelled():
        raise CancelledError
    return future.native
