"""Configurations of the executors that come with isthmus."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, AliasChoices, Field

from isthmus.bench.config import ExecutorConfig

if TYPE_CHECKING:
    from isthmus.bench.executor import FutureDependencyExecutor
    from isthmus.bench.executor.dask import DaskExecutor
    from isthmus.bench.executor.parsl import ParslExecutor

__all__ = ["DaskConfig", "ParslHTEXConfig", "ParslThreadConfig", "ProcessConfig", "ThreadConfig"]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ascending(ports: tuple[int, int]) -> tuple[int, int]:
    if not ports[0] < ports[1]:  # Parsl chooses at random, the last one excepted
        raise ValueError(f"the first port must be below the last, got {ports[0]} and {ports[1]}")
    return ports


Ports = Annotated[
    tuple[
        Annotated[int, Field(ge=1024, le=65535)],
        Annotated[int, Field(ge=1024, le=65535)],
    ],
    AfterValidator(_ascending),
]

NATIVE = "threads that numeric libraries may use in a worker (0: leave as it is)"
RETRIES = "how often a task that failed is tried again"
PARSL_FILES = "where Parsl keeps its files (default: a temporary folder, deleted at the end)"
PARSL_LOG = "write Parsl's own log, with every step of every task, into its files"


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


class ParslThreadConfig(ExecutorConfig):
    """Parsl over threads of this process."""

    name: str = "parsl-thread"
    max_threads: int = Field(CORES, gt=0, description="number of workers")
    retries: int = Field(0, ge=0, description=RETRIES)
    run_dir: str | None = Field(None, description=PARSL_FILES)
    log: bool = Field(False, description=PARSL_LOG)

    def get_executor(self) -> ParslExecutor:
        """Start a kernel."""
        from isthmus.bench.executor.parsl import ParslExecutor

        return ParslExecutor.threads(**self.model_dump(exclude={"name"}))


class ParslHTEXConfig(ExecutorConfig):
    """Parsl's high-throughput executor, with workers on this host."""

    name: str = "parsl-htex"
    workers: int = Field(
        CORES,
        gt=0,
        validation_alias=AliasChoices("workers", "max_workers_per_node"),
        description="number of worker processes; max_workers_per_node is the same",
    )
    native_threads: int = Field(1, ge=0, description=NATIVE)
    address: str = Field(
        "127.0.0.1", description="where workers reach Parsl, which listens nowhere else"
    )
    worker_ports: Ports = Field((54000, 55000), description="first and last port for workers")
    interchange_ports: Ports = Field(
        (55000, 56000), description="the same for Parsl's own processes"
    )
    prefetch_capacity: int = Field(0, ge=0, description="tasks that wait beside busy workers")
    heartbeat_period: int = Field(1, gt=0, description="seconds until a worker's death is noticed")
    encrypted: bool = Field(True, description="encrypt Parsl's connections, with keys of this run")
    retries: int = Field(0, ge=0, description=RETRIES)
    run_dir: str | None = Field(None, description=PARSL_FILES)
    log: bool = Field(False, description=PARSL_LOG)

    def get_executor(self) -> ParslExecutor:
        """Start kernel and workers."""
        from isthmus.bench.executor.parsl import ParslExecutor

        return ParslExecutor.htex(**self.model_dump(exclude={"name"}))
