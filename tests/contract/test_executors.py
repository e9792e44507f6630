"""The shipped suite against the executors that come with isthmus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from isthmus.bench.engine import Engine
from isthmus.bench.executor import FutureDependencyExecutor
from isthmus.bench.executor.configs import DaskConfig, ProcessConfig, ThreadConfig
from isthmus.bench.executor.dask import DaskExecutor
from isthmus.testing.executor_contract import ExecutorContract


@pytest.fixture(autouse=True, scope="session")
def resource_tracker() -> None:
    """Python's own helper process for spawned workers lives as long as its interpreter."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()


class TestThread(ExecutorContract):
    crosses_processes = False

    @pytest.fixture
    def executor(self) -> FutureDependencyExecutor:
        return ThreadConfig(max_threads=2).get_executor()


class TestStandardThreadPool(ExecutorContract):
    crosses_processes = False

    @pytest.fixture
    def executor(self) -> FutureDependencyExecutor:
        return FutureDependencyExecutor(ThreadPoolExecutor(2))


class TestProcess(ExecutorContract):
    @pytest.fixture
    def executor(self) -> FutureDependencyExecutor:
        return ProcessConfig(max_processes=2).get_executor()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    owner: Any = DaskConfig(workers=2).get_executor()
    yield owner.cluster
    owner.shutdown()


@pytest.mark.leaks_allowed("Dask", "Profile", "IO loop", "socket:")
class TestDask(ExecutorContract):
    reports_death = False

    @pytest.fixture
    def executor(self, cluster: Any) -> DaskExecutor:
        return DaskConfig(scheduler=cluster.scheduler_address).get_executor()

    def test_cancelling_is_quiet(
        self, executor: DaskExecutor, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Dask tells a future of its end that has been ended by its user already."""
        future = executor.submit(time.sleep, 1)
        assert future.cancel()
        executor.shutdown()  # waits for Dask to have told
        assert [r for r in caplog.records if r.name == "concurrent.futures"] == []

    def test_a_result_has_its_weight(self, executor: DaskExecutor) -> None:
        """Dask counts transfers and places tasks by what it thinks that results weigh."""
        with Engine(executor) as engine:
            future = engine.submit(bytes, 1 << 20)
            assert len(future.result()) == 1 << 20
            native: Any = future._low
            (weight,) = executor.client.nbytes([native.native.key], summary=False).values()
        assert weight >= 1 << 20
