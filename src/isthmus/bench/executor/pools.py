"""The standard library's pools, as executors that a benchmark can interrupt."""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import wait
from typing import Any

from isthmus.bench.executor.native_threads import LimitedSpawnContext, environment

__all__ = ["ProcessExecutor", "ThreadExecutor"]


class ThreadExecutor(ThreadPoolExecutor):
    """A thread pool. Python code in tasks takes turns; for development and as the cheapest engine.

    Args:
        max_threads: workers.
    """

    def __init__(self, max_threads: int) -> None:
        super().__init__(max_threads, thread_name_prefix="isthmus-worker")


class ProcessExecutor(ProcessPoolExecutor):
    """A process pool whose workers go when their client is killed.

    Args:
        max_processes: workers.
        start_method: ``spawn``, ``forkserver`` or ``fork``. Forking a process with threads, which
            every pool has, can deadlock the child.
        native_threads: threads that numeric libraries may start in a worker; 0 leaves them alone. A
            forked worker has its parent's libraries, with their threads as they are.
    """

    def __init__(
        self, max_processes: int, *, start_method: str = "spawn", native_threads: int = 1
    ) -> None:
        context: Any = multiprocessing.get_context(start_method)
        if start_method == "spawn":
            context = LimitedSpawnContext(native_threads)
        super().__init__(
            max_processes,
            mp_context=context,
            initializer=_start_worker,
            initargs=(environment(native_threads),),
        )

    def abort(self) -> None:
        """Cancel what is queued and kill the workers."""
        workers = list((self._processes or {}).values())
        manager: Any = self._executor_manager_thread
        self.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.kill()
        if manager is not None:  # it sees the dead workers, and fails what they had
            manager.join()


def _start_worker(variables: dict[str, str]) -> None:
    os.environ.update(variables)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A pool's worker waits on a pipe that its siblings hold open too: of a killed client it would
        # never hear.
        threading.Thread(target=_go_with, args=(parent.sentinel,), daemon=True).start()


def _go_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
