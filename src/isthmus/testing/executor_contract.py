"""The suite that holds any executor to what the benchmark engine needs of it.

Subclass it in a test module, with a fixture ``executor`` of at least two workers::

    class TestMine(ExecutorContract):
        @pytest.fixture
        def executor(self):
            yield MyConfig(workers=2).get_executor()
"""

from __future__ import annotations

import concurrent.futures
import operator
import os
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.bench.engine import Engine
from isthmus.bench.records import JSONRecordLogger, read_records
from isthmus.errors import DependencyError

if TYPE_CHECKING:
    from pathlib import Path

    from isthmus.bench.plugins import Executor

__all__ = [
    "ExecutorContract",
    "Pair",
    "add",
    "die",
    "fail",
    "hold",
    "identity",
    "make_lock",
    "total",
]

PATIENCE = 60.0


@dataclass(frozen=True)
class Pair:
    """A container that an executor does not know."""

    left: Any
    right: Any


def add(a: Any, b: Any = 0) -> Any:
    """Return the sum."""
    return a + b


def identity(obj: Any) -> Any:
    """Return the argument."""
    return obj


def total(items: Any) -> Any:
    """Return the sum of a collection, of a mapping's values, of a pair's two."""
    if isinstance(items, Pair):
        return items.left + items.right
    return sum(items.values() if isinstance(items, dict) else items)


def fail(message: str) -> None:
    """Raise a ValueError."""
    raise ValueError(message)


def hold(path: str, started: str | None = None) -> str:
    """Make the file `started`, then wait until the file `path` is there."""
    if started is not None:
        with open(started, "x"):
            pass
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.002)
    return path


def die() -> None:
    """Kill the worker."""
    os._exit(77)


def make_lock() -> Any:
    """Return what does not pickle."""
    return threading.Lock()


class ExecutorContract:
    """What every executor does."""

    crosses_processes = True
    """Whether tasks run elsewhere than in the client's process."""
    reports_death = True
    """Whether the death of a worker fails its task at once (rather than after retries)."""
    workers = 2

    @pytest.fixture
    def executor(self) -> Any:
        """Yield a fresh executor; the tests shut it down."""
        raise NotImplementedError

    @pytest.fixture
    def gate(self, tmp_path: Path) -> Path:
        """A file whose making lets held tasks go."""
        return tmp_path / "gate"

    @pytest.fixture(autouse=True)
    def shut_down(self, executor: Executor, gate: Path) -> Any:
        """Let go of everything at the end, whatever the test did."""
        yield
        gate.touch()
        executor.shutdown(wait=True, cancel_futures=True)

    def test_a_call_gives_its_result(self, executor: Executor) -> None:
        assert executor.submit(add, 1, b=2).result(PATIENCE) == 3
        assert executor.submit(identity, None).result(PATIENCE) is None

    def test_the_standard_library_can_wait_for_its_futures(self, executor: Executor) -> None:
        futures = [executor.submit(identity, i) for i in range(20)]
        done, left = concurrent.futures.wait(futures, PATIENCE)
        assert (len(done), len(left)) == (20, 0)
        ended = concurrent.futures.as_completed(futures, PATIENCE)
        assert sorted(f.result() for f in ended) == list(range(20))

    def test_a_future_is_an_argument(self, executor: Executor) -> None:
        one = executor.submit(identity, 1)
        two = executor.submit(add, one, one)
        assert executor.submit(add, two, b=one).result(PATIENCE) == 3

    @pytest.mark.parametrize("wrap", [list, tuple, lambda f: {"a": f[0], "b": f[1]}, lambda f: [f]])
    def test_futures_are_found_inside_containers(self, executor: Executor, wrap: Any) -> None:
        futures = wrap([executor.submit(identity, 1), executor.submit(identity, 2)])
        if isinstance(futures[0] if not isinstance(futures, dict) else None, list):
            assert executor.submit(identity, futures).result(PATIENCE) == [[1, 2]]
        else:
            assert executor.submit(total, futures).result(PATIENCE) == 3

    def test_an_unfinished_input_is_waited_for(self, executor: Executor, gate: Path) -> None:
        held = executor.submit(hold, str(gate))
        after = executor.submit(identity, held)
        assert not after.done()
        gate.touch()
        assert after.result(PATIENCE) == str(gate)

    def test_a_graph_of_tasks_keeps_its_order(self, executor: Executor) -> None:
        level = [executor.submit(identity, i) for i in range(16)]
        while len(level) > 1:
            level = [
                executor.submit(add, a, b) for a, b in zip(level[::2], level[1::2], strict=True)
            ]
        assert level[0].result(PATIENCE) == 120

    @pytest.mark.filterwarnings("ignore:Sending large graph")
    def test_large_arguments_and_results(self, executor: Executor) -> None:
        data = bytes(range(256)) * 20_000
        assert executor.submit(identity, data).result(PATIENCE) == data

    def test_an_exception_keeps_its_type_and_text(self, executor: Executor) -> None:
        error = executor.submit(fail, "what went wrong").exception(PATIENCE)
        assert isinstance(error, ValueError)
        assert str(error) == "what went wrong"

    def test_what_needs_a_failed_task_fails(self, executor: Executor) -> None:
        first = executor.submit(fail, "the first of all")
        last = executor.submit(identity, executor.submit(add, first, 1))
        assert "the first of all" in str(last.exception(PATIENCE))

    def test_queued_calls_can_be_cancelled(self, executor: Executor, gate: Path) -> None:
        held = [executor.submit(hold, str(gate)) for _ in range(self.workers)]
        extra = [executor.submit(identity, i) for i in range(10)]
        needs = executor.submit(identity, extra[-1])
        assert extra[-1].cancel()
        assert extra[-1].cancelled()
        with pytest.raises(CancelledError):
            needs.result(PATIENCE)
        gate.touch()
        assert {f.result(PATIENCE) for f in held} == {str(gate)}

    def test_many_threads_submit(self, executor: Executor) -> None:
        found: list[int] = []

        def submit() -> None:
            found.extend(
                f.result(PATIENCE) for f in [executor.submit(add, i, 1) for i in range(10)]
            )

        threads = [threading.Thread(target=submit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(found) == sorted(list(range(1, 11)) * 4)

    def test_shutdown_waits_for_what_waits(self, executor: Executor, gate: Path) -> None:
        held = executor.submit(hold, str(gate))
        after = executor.submit(identity, held)
        threading.Timer(0.05, gate.touch).start()
        executor.shutdown(wait=True)
        assert after.done()
        with pytest.raises(Exception, match=r"closed|shutdown"):
            executor.submit(identity, 1)
        executor.shutdown(wait=True)

    def test_a_result_that_cannot_travel_is_an_error(self, executor: Executor) -> None:
        if not self.crosses_processes:
            pytest.skip("results do not travel")
        lock = executor.submit(make_lock)
        with pytest.raises(Exception, match=r".+"):
            lock.result(PATIENCE)
        assert executor.submit(identity, 1).result(PATIENCE) == 1

    def test_a_dead_worker_fails_its_task(self, executor: Executor) -> None:
        if not (self.crosses_processes and self.reports_death):
            pytest.skip("a worker does not die alone, or its task is tried again")
        with Engine(executor) as engine:
            dead = engine.submit(die)
            needs = engine.submit(identity, dead)
            assert dead.exception(PATIENCE) is not None
            assert isinstance(needs.exception(PATIENCE), DependencyError)

    def test_the_engine_nests_and_records(self, executor: Executor, tmp_path: Path) -> None:
        records = tmp_path / "tasks.jsonl"
        with Engine(executor, record_logger=JSONRecordLogger(records)) as engine:
            one, two = engine.submit(identity, 1), engine.submit(identity, 2)
            both = engine.submit(total, Pair(one, two))
            deep = engine.submit(identity, {"a": [(Pair(both, {"b": one}),)], two: {two}})
            assert deep.result(PATIENCE) == {"a": [(Pair(3, {"b": 1}),)], 2: {2}}
            failed = engine.submit(fail, "remotely")
            needs = engine.submit(identity, [failed])
            with pytest.raises(DependencyError, match=f"{failed.task_id}.*remotely") as caught:
                needs.result(PATIENCE)
            assert isinstance(caught.value.__cause__, ValueError)
        assert engine.tasks_executed == 6
        found = {r.task_id: r for r in read_records(records)}
        assert len(found) == 6
        assert set(found[both.task_id].parents) == {one.task_id, two.task_id}
        assert set(found[deep.task_id].parents) == {both.task_id, one.task_id, two.task_id}
        ran = [r for r in found.values() if r.success]
        assert len(ran) == 4
        for record in [*ran, found[failed.task_id]]:
            assert (record.pid != os.getpid()) == self.crosses_processes
            assert record.host
            assert record.worker
            assert record.max_rss_bytes > 0
            assert 0 <= record.execute_s <= record.latency_s
        assert "remotely" in found[failed.task_id].error
        assert "DependencyError" in found[needs.task_id].error

    def test_the_engine_shows_remote_tracebacks(self, executor: Executor) -> None:
        import traceback

        with Engine(executor) as engine:
            error = engine.submit(fail, "remotely").exception(PATIENCE)
            text = "".join(traceback.format_exception(error))
            assert "in fail" in text
            assert "raise ValueError(message)" in text

    def test_the_engine_maps(self, executor: Executor) -> None:
        with Engine(executor) as engine:
            assert list(engine.map(operator.add, range(5), range(5))) == [0, 2, 4, 6, 8]
