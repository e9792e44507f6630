"""Data by proxy through a store, on every executor."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.bench.cli import main
from isthmus.bench.config import ExecutorConfig
from isthmus.bench.engine import Engine
from isthmus.bench.executor.configs import DaskConfig, ProcessConfig, ThreadConfig
from isthmus.bench.filter import ObjectSize
from isthmus.bench.records import JSONRecordLogger, read_records
from isthmus.bench.transform.configs import ConnectorConfig, ProxyConfig
from isthmus.proxy import is_proxy, is_resolved
from isthmus.store import Store
from isthmus.testing.executor_contract import add, identity

DASK = pytest.mark.leaks_allowed(
    "Dask", "Profile", "IO loop", "AsyncProcess", "socket:", "anon_inode"
)


@pytest.fixture(autouse=True, scope="module")
def tracker() -> None:
    """Python's own helper process for spawned workers lives as long as its interpreter."""
    resource_tracker.ensure_running()


@pytest.fixture(
    params=[
        ThreadConfig(max_threads=2),
        ProcessConfig(max_processes=2),
        pytest.param(DaskConfig(workers=2), marks=DASK),
    ],
    ids=lambda config: config.name,
)
def executor(request: pytest.FixtureRequest) -> ExecutorConfig:
    config: ExecutorConfig = request.param
    return config


@pytest.mark.parametrize("kind", ["shm", "file"])
def test_arguments_and_results_go_through_the_store(
    executor: ExecutorConfig, kind: str, tmp_path: Path
) -> None:
    transformer = ProxyConfig(connector=ConnectorConfig(kind=kind)).get_transformer(tmp_path)
    logger = JSONRecordLogger(tmp_path / "tasks.jsonl")
    with Engine(executor.get_executor(), transformer, ObjectSize(10_000), logger) as engine:
        data = np.arange(100_000.0)
        twice = engine.submit(add, data, data)
        last = engine.submit(add, twice, 1.0)
        small = engine.submit(add, 1, 2)
        np.testing.assert_array_equal(last.result(), 2 * data + 1)
        assert type(last.result()) is np.ndarray
        assert small.result() == 3
        assert len(list(transformer.store.connector.list())) == 4  # `data` twice, two results
    transformer.clear()
    records = {r.task_id: r for r in read_records(tmp_path / "tasks.jsonl")}
    assert records[last.task_id].parents == [twice.task_id]
    assert records[twice.task_id].input_transform_s > 0
    assert records[twice.task_id].transformed_bytes > 1_600_000
    assert records[twice.task_id].output_bytes > 800_000
    assert records[last.task_id].input_bytes == records[twice.task_id].output_bytes


def test_a_proxy_of_the_applications_own_is_left_alone(
    executor: ExecutorConfig, tmp_path: Path
) -> None:
    """And the engine beneath does not resolve it on the client either, Dask's tokens included."""
    transformer = ProxyConfig().get_transformer(tmp_path)
    with Store("mine", register=True) as store:
        proxy: Any = store.proxy([1, 2, 3])
        with Engine(executor.get_executor(), transformer) as engine:
            assert list(engine.submit(identity, proxy).result()) == [1, 2, 3]
            engine.transformer = None
            assert list(engine.submit(identity, proxy).result()) == [1, 2, 3]
            nested = engine.submit(identity, {"deep": [proxy]}).result()
            assert is_proxy(nested["deep"][0])
        if executor.name != "thread":  # there it is one and the same object
            assert not is_resolved(proxy)
        store.clear()
    transformer.close()  # the engine knew it no more
    transformer.clear()


FIGURE_2_6 = """
[engine.filter]
name = "object-size"
min_size = 1000
max_size = 1000000

[engine.transformer]
name = "proxystore"

[engine.transformer.connector]
kind = "file"
options = { store_dir = "here" }
"""


def test_figure_2_6_objects_of_a_size_by_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(FIGURE_2_6)
    argv = ["run", "--config", "config.toml", "--app", "cholesky", "--app.matrix-size", "40"]
    argv += ["--app.block-size", "20", "--engine.executor", "process", "--run.dir-format", "one"]
    assert main(argv) == 0
    assert "verified  ‖A-LLᵀ‖/‖A‖" in capsys.readouterr().out
    assert Path("here").exists()
    assert 'store_dir = "here"' in Path("one/config.toml").read_text()
    again = ["run", "--config", "one/config.toml", "--run.dir-format", "two"]
    options = '{store_dir = "there"}'
    assert main([*again, "--engine.transformer.connector.options", options]) == 0
    assert Path("there").exists()


def test_an_unknown_connector_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["run", "--app", "cholesky", "--app.matrix-size", "40", "--app.block-size", "20"]
    argv += ["--engine.transformer", "proxy", "--engine.transformer.connector.kind", "shn"]
    assert main(argv) == 2
    assert "did you mean 'shm'" in capsys.readouterr().err
    assert main([*argv[:-1], "file", "--engine.transformer.connector.options", "{dir='x'}"]) == 2
    assert "dir" in capsys.readouterr().err


@pytest.fixture(autouse=True)
def _no_logging_left() -> Iterator[None]:
    import logging

    yield
    assert not [h for h in logging.getLogger().handlers if hasattr(h, "isthmus")]
