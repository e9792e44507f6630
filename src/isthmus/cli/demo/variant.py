"""One variant, in an interpreter of its own: ``python -m isthmus.cli.demo.variant PLAN``.

Nothing else happens in this process: progress is shown and memory sampled by the one that started it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.cli.demo.events import Begun, Ended, Event, Plan, Progress, Ready, encode
from isthmus.cli.demo.traffic import PipeTraffic, connection_bytes
from isthmus.cli.demo.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.bench.records import TaskRecord
    from isthmus.bench.transform.proxies import ProxyTransformer
    from isthmus.cli.demo.workloads import Workload

__all__ = ["main"]

PROGRESS_SECONDS = 0.1


class Teller:
    """Writes events; counts finished tasks as the engine's record logger."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._told = 0.0
        self.tasks = 0

    def tell(self, event: Event) -> None:
        """Write an event."""
        with self._lock:
            os.write(self._fd, encode(event) + b"\n")  # less than a pipe takes at once

    def log(self, record: TaskRecord) -> None:
        """Count a task that has ended, and say so now and then."""
        self.tasks += 1
        now = time.monotonic()
        if now - self._told > PROGRESS_SECONDS:
            self._told = now
            self.tell(Progress(self.tasks))

    def close(self) -> None:
        """Do nothing."""


class Traffic:
    """What has gone through the scheduler, and from worker to worker, so far."""

    def __init__(self, executor: Any, pipes: PipeTraffic) -> None:
        self._client: Any = getattr(executor, "client", None)
        self._pipes = pipes

    def scheduler(self) -> int | None:
        """Return bytes into and out of the process that schedules."""
        if self._client is None:
            return self._pipes.bytes
        return connection_bytes({_port(self._client.scheduler.address)}, self._ports())

    def workers(self) -> int | None:
        """Return bytes that workers exchanged with each other, counted where they were asked for."""
        if self._client is None:
            return None
        counts = self._client.run(connection_bytes, set(), self._ports()).values()
        return None if None in counts else sum(counts)

    def _ports(self) -> set[int]:
        return {_port(address) for address in self._client.scheduler_info(n_workers=-1)["workers"]}


def main() -> None:
    """Run the plan that the first argument holds, and tell of it on stdout."""
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    teller = Teller(os.dup(1))
    os.dup2(2, 1)  # what libraries print is not an event
    begin = time.monotonic()
    with PipeTraffic() as pipes, _executor(plan) as executor:
        _wake(executor, plan.workers)
        teller.tell(Ready(time.monotonic() - begin))
        workload = WORKLOADS[plan.workload](plan.sizes)
        _runs(plan, workload, executor, Traffic(executor, pipes), teller)


def _runs(plan: Plan, workload: Workload, executor: Any, traffic: Traffic, teller: Teller) -> None:
    from isthmus.bench.engine import Engine

    transformer = _transformer(plan) if plan.by_proxy else None
    engine = Engine(executor, transformer, record_logger=teller)
    checked, digest = "", plan.verified
    spent = 0.0
    for run in range(plan.runs):
        if run >= 2 and spent > plan.budget:
            break
        teller.tasks = 0
        carried, exchanged = traffic.scheduler(), traffic.workers()
        teller.tell(Begun(run, time.monotonic()))
        begin = time.perf_counter()
        result = workload.run(engine)
        makespan = time.perf_counter() - begin
        end = time.monotonic()
        spent += makespan
        carried, exchanged = (
            _since(carried, traffic.scheduler()),
            _since(exchanged, traffic.workers()),
        )
        stored = _sizes(transformer.store.connector) if transformer else []
        if (
            now := workload.digest(result)
        ) != digest:  # a result that was checked need not be again
            checked, digest = workload.check(result), now
        del result
        if transformer is not None:
            transformer.clear()
        teller.tell(
            Ended(
                run,
                end,
                makespan,
                teller.tasks,
                carried,
                exchanged,
                sum(stored),
                len(stored),
                checked,
                digest,
                workload.what,
            )
        )
    engine.close()


@contextlib.contextmanager
def _executor(plan: Plan) -> Iterator[Any]:
    if plan.engine == "dask":
        from isthmus.bench.executor.dask import DaskExecutor

        executor: Any = DaskExecutor.local(plan.workers)
    else:
        from isthmus.bench.executor import FutureDependencyExecutor
        from isthmus.bench.executor.pools import ProcessExecutor

        executor = FutureDependencyExecutor(ProcessExecutor(plan.workers))
    try:
        yield executor
    except BaseException:
        executor.abort()
        raise
    executor.shutdown(wait=True)  # the engine has done so; without a run it has not


def _transformer(plan: Plan) -> ProxyTransformer:
    from isthmus.bench.transform.proxies import ProxyTransformer

    return ProxyTransformer.over("shm", {"name": plan.space}, name=plan.space, cache_size=16)


def _wake(executor: Any, workers: int) -> None:
    """Return when every worker is up and has imported what the tasks need."""
    awake: set[int] = set()
    while len(awake) < workers:
        futures = [executor.submit(awaken, n) for n in range(workers)]
        awake.update(future.result() for future in futures)


def awaken(_: int) -> int:
    """Import what tasks need, on a worker; return its process."""
    import isthmus.bench.apps.cholesky
    import isthmus.bench.apps.mapreduce
    import isthmus.bench.task
    import isthmus.bench.transform.proxies
    import isthmus.connectors.shm  # noqa: F401

    time.sleep(0.02)  # long enough for the next one to go to another worker
    return os.getpid()


def _sizes(connector: Any) -> list[int]:
    return [info.size for info in connector.list()]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _since(before: int | None, now: int | None) -> int | None:
    return None if before is None or now is None else now - before


if __name__ == "__main__":
    # Workers must find these functions by the module's own name, not in `__main__`.
    from isthmus.cli.demo.variant import main as run

    run()
