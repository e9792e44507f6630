"""Configurations of the executors that come with isthmus."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from isthmus.bench.config import ExecutorConfig

if TYPE_CHECKING:
    from isthmus.bench.executor import FutureDependencyExecutor
    from isthmus.bench.executor.dask import DaskExecutor

__all__ = ["DaskConfig", "ProcessConfig", "ThreadConfig"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

NATIVE = "threads that numeric libraries may use in a worker (0: leave as it is)"


class ThreadConfig(ExecutorConfig):
    """Threads of this process."""

    name: str = "thread"
    max_threads: int = Field(CORES, gt=0, description="number of workers")

    def get_executor(self) -> FutureDependencyExecutor:
        """Build the pool, with data flow."""
        from isthmus.bench.executor import FutureDependencyExecutor
        from isthmus.bench.executor.pools import ThreadExecutor

        return FutureDependencyExecutor(ThreadExecutor(self.max_threads))


class ProcessConfig(ExecutorConfig):
    """Processes of this host."""

    name: str = "process"
    max_processes: int = Field(CORES, gt=0, description="number of workers")
    start_method: Literal["spawn", "forkserver", "fork"] = Field(
        "spawn", description="how workers start; fork is quick, and unsafe beside threads"
    )
    native_threads: int = Field(1, ge=0, description=NATIVE)

    def get_executor(self) -> FutureDependencyExecutor:
        """Build the pool, with data flow."""
        from isthmus.bench.executor import FutureDependencyExecutor
        from isthmus.bench.executor.pools import ProcessExecutor

        pool = ProcessExecutor(
            self.max_processes, start_method=self.start_method, native_threads=self.native_threads
        )
        return FutureDependencyExecutor(pool)


class DaskConfig(ExecutorConfig):
    """Dask Distributed: a cluster on this host, or one that runs."""

    name: str = "dask"
    scheduler: str | None = Field(
        None, description="address of a running scheduler, tcp://host:port"
    )
    workers: int = Field(CORES, gt=0, description="number of workers, without `scheduler`")
    use_threads: bool = Field(False, description="workers are threads of this process")
    native_threads: int = Field(1, ge=0, description=NATIVE)
    dashboard_address: str | None = Field(
        None, description="where the dashboard listens, such as :8787"
    )

    def get_executor(self) -> DaskExecutor:
        """Start a cluster, or connect to one."""
        from isthmus.bench.executor.dask import DaskExecutor

        if self.scheduler is not None:
            return DaskExecutor.connect(self.scheduler)
        return DaskExecutor.local(
            self.workers,
            use_threads=self.use_threads,
            native_threads=self.native_threads,
            dashboard_address=self.dashboard_address,
        )
