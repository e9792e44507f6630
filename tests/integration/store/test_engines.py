"""The proxy of a future through engines that `make test` does not install."""

from __future__ import annotations

import importlib
import os
import sys
import uuid
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.file import FileConnector
from isthmus.proxy import is_resolved
from isthmus.store import Future, Store

pytestmark = pytest.mark.extras


@pytest.fixture(autouse=True)
def no_tracker_stays() -> Iterator[None]:
    yield
    resource_tracker._resource_tracker._stop()  # it would, for the rest of this process's life


@pytest.fixture(autouse=True)
def workers_find_what_we_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Engines start their processes by the names of scripts, which then import this file."""
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, sys.path)]))
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"test-{uuid.uuid4().hex[:8]}", FileConnector(tmp_path)) as store:
        yield store
        store.clear()


def produce(future: Future[str]) -> int:
    future.set_result("value")
    return os.getpid()


def consume(data: Any) -> tuple[bool, str]:
    return is_resolved(data), data.upper()


def test_through_parsl(store: Store, tmp_path: Path) -> None:
    parsl = pytest.importorskip("parsl")
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    executor = HighThroughputExecutor(
        address="127.0.0.1",
        max_workers_per_node=2,
        cores_per_worker=0.1,
        encrypted=False,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    config = Config(
        executors=[executor], run_dir=str(tmp_path / "runinfo"), initialize_logging=False
    )
    with parsl.load(config):
        future: Future[str] = store.future(timeout=60)
        proxy = future.proxy()
        second = parsl.python_app(consume)(proxy)
        first = parsl.python_app(produce)(future)
        assert second.result() == (False, "VALUE")
        assert first.result() != os.getpid()
        assert not is_resolved(proxy)


@pytest.mark.leaks_allowed("anon_inode:", "socket:", "/ray/session_")  # its C++ core's, for good
def test_through_ray(store: Store) -> None:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=10**8)
    try:
        future: Future[str] = store.future(timeout=60)
        proxy = future.proxy()
        second = ray.remote(consume).remote(proxy)
        first = ray.remote(produce).remote(future)
        assert ray.get(second) == (False, "VALUE")
        assert ray.get(first) != os.getpid()
        assert not is_resolved(proxy)
    finally:
        ray.shutdown()


@pytest.mark.parametrize("engine", ["loky", "joblib"])
def test_through_loky(store: Store, engine: str) -> None:
    module = "loky" if engine == "loky" else "joblib.externals.loky"
    executor: Any = pytest.importorskip(module).get_reusable_executor(2)
    try:
        future: Future[str] = store.future(timeout=60)
        proxy = future.proxy()
        second, first = executor.submit(consume, proxy), executor.submit(produce, future)
        assert second.result(60) == (False, "VALUE")
        assert first.result(60) != os.getpid()
        assert not is_resolved(proxy)
    finally:
        executor.shutdown()
        tracker = importlib.import_module(f"{module}.backend.resource_tracker")
        tracker._resource_tracker._stop()


@pytest.mark.leaks_allowed("Dask-Offload")  # a pool of threads of the module
def test_between_engines(store: Store, tmp_path: Path) -> None:
    """Made here, set in a Dask task, used in a Parsl one."""
    distributed = pytest.importorskip("distributed")
    parsl = pytest.importorskip("parsl")
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor

    executor = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=1, cores_per_worker=0.1, encrypted=False
    )
    config = Config(
        executors=[executor], run_dir=str(tmp_path / "runinfo"), initialize_logging=False
    )
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
        parsl.load(config),
    ):
        future: Future[str] = store.future(timeout=60)
        second = parsl.python_app(consume)(future.proxy())
        first = client.submit(produce, future)
        assert second.result() == (False, "VALUE")
        assert first.result(60) != os.getpid()
