"""Parsl's executors: what travels, what dies and who notices, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from isthmus.bench.cli import main
from isthmus.bench.engine import Engine
from isthmus.bench.executor.configs import ParslHTEXConfig, ParslThreadConfig
from isthmus.bench.executor.native_threads import VARIABLES
from isthmus.bench.filter import ObjectSize
from isthmus.bench.records import JSONRecordLogger, read_records
from isthmus.bench.transform.configs import ConnectorConfig, ProxyConfig
from isthmus.errors import BrokenError, MissingExtraError
from isthmus.proxy import Proxy, is_proxy, is_resolved
from isthmus.store import Store
from isthmus.testing.executor_contract import add, die, hold, identity, total

pytest.importorskip("parsl", reason="needs Parsl: pip install 'isthmus[parsl]'")

from isthmus.bench.executor.parsl import ParslExecutor

pytestmark = pytest.mark.extras
PATIENCE = 60.0


@pytest.fixture
def htex() -> Iterator[ParslExecutor]:
    executor = ParslHTEXConfig(workers=2).get_executor()
    yield executor
    executor.shutdown(wait=True, cancel_futures=True)


class Resolved:
    """A factory that leaves a line in a file each time that it is asked, with the process's id."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> list[int]:
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()}\n")
        return [1, 2, 3]


def environment() -> dict[str, str]:
    return dict(os.environ)


def fails_once(path: str) -> str:
    try:
        open(path, "x").close()
    except FileExistsError:
        return "again"
    raise ValueError("the first time")


def doubled_in_place(array: Any) -> Any:
    array *= 2
    return array


def parts_of(executor: ParslExecutor) -> list[psutil.Process]:
    """Return the pool and the interchange."""
    pool = next(iter(executor._executor.provider.resources.values()))
    return [psutil.Process(pool.pid), psutil.Process(executor._executor.interchange_proc.pid)]


def test_proxies_are_resolved_by_workers_only(htex: ParslExecutor, tmp_path: Path) -> None:
    log = tmp_path / "resolved"
    proxy: Any = Proxy(Resolved(str(log)))
    assert htex.submit(total, proxy).result(PATIENCE) == 6
    with Engine(htex) as engine:
        passed = engine.submit(identity, {"deep": [proxy]})
        assert engine.submit(total, proxy).result(PATIENCE) == 6
        back = passed.result(PATIENCE)["deep"][0]
        assert is_proxy(back)
        assert not is_resolved(back)
    asked = log.read_text().split()
    assert len(asked) == 2
    assert str(os.getpid()) not in asked


def test_threads_leave_a_proxy_alone_too(tmp_path: Path) -> None:
    proxy: Any = Proxy(Resolved(str(tmp_path / "resolved")))
    executor = ParslThreadConfig(max_threads=1).get_executor()
    assert is_proxy(executor.submit(identity, proxy).result(PATIENCE))
    executor.shutdown()
    assert not (tmp_path / "resolved").exists()


def test_arguments_and_results_go_through_a_store(htex: ParslExecutor, tmp_path: Path) -> None:
    transformer = ProxyConfig(connector=ConnectorConfig(kind="shm")).get_transformer(tmp_path)
    logger = JSONRecordLogger(tmp_path / "tasks.jsonl")
    with (
        Store("mine", register=True) as store,
        Engine(htex, transformer, ObjectSize(10_000), logger) as engine,
    ):
        data = np.arange(100_000.0)
        twice = engine.submit(add, data, data)
        last = engine.submit(add, twice, 1.0)
        np.testing.assert_array_equal(last.result(PATIENCE), 2 * data + 1)
        mine: Any = store.proxy([1, 2, 3])
        assert engine.submit(total, mine).result(PATIENCE) == 6
        assert not is_resolved(mine)
        store.clear()
    transformer.clear()
    records = {r.task_id: r for r in read_records(tmp_path / "tasks.jsonl")}
    assert records[twice.task_id].output_bytes > 800_000
    assert records[last.task_id].input_bytes == records[twice.task_id].output_bytes


def test_arrays_arrive_writable_and_results_are_one_object(htex: ParslExecutor) -> None:
    data = np.arange(10.0)
    first = htex.submit(doubled_in_place, data)
    second = htex.submit(doubled_in_place, first)
    np.testing.assert_array_equal(second.result(PATIENCE), 4 * data)
    assert first.result(PATIENCE) is first.result(PATIENCE)
    first.result(PATIENCE)[:] = 1  # ours now, and what the next task gets
    np.testing.assert_array_equal(
        htex.submit(doubled_in_place, first).result(PATIENCE), np.full(10, 2.0)
    )


def test_workers_have_one_native_thread_each(htex: ParslExecutor) -> None:
    found = htex.submit(environment).result(PATIENCE)
    assert {found.get(name) for name in VARIABLES} == {"1"}


def test_parsl_listens_on_the_loopback_interface_alone(htex: ParslExecutor) -> None:
    listening = [
        connection.laddr.ip
        for process in [psutil.Process(), *parts_of(htex)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_dead_worker_is_told_and_replaced(htex: ParslExecutor) -> None:
    with pytest.raises(BrokenError, match="the worker that had the task died"):
        htex.submit(die).result(PATIENCE)
    assert [f.result(PATIENCE) for f in [htex.submit(add, i, 1) for i in range(6)]] == [
        *range(1, 7)
    ]


@pytest.mark.parametrize("part", ["pool", "interchange"])
def test_a_dead_part_of_parsl_fails_every_task(
    htex: ParslExecutor, part: str, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    running = htex.submit(hold, str(tmp_path / "gate"), str(started))
    while not started.exists():
        time.sleep(0.005)
    after = htex.submit(identity, running)
    parts_of(htex)[part == "interchange"].kill()
    with pytest.raises(BrokenError, match=f"its .*{part} ended with status -9"):
        running.result(PATIENCE)
    assert after.exception(PATIENCE) is not None
    with pytest.raises(BrokenError, match="ended with status"):
        htex.submit(identity, 1).result(PATIENCE)


def test_a_failed_task_is_tried_again(tmp_path: Path) -> None:
    for config in (
        ParslThreadConfig(max_threads=1, retries=1),
        ParslHTEXConfig(workers=1, retries=1),
    ):
        with Engine(config.get_executor()) as engine:
            path = str(tmp_path / config.name)
            assert engine.submit(fails_once, path).result(PATIENCE) == "again"


def test_kernels_live_side_by_side_and_none_is_the_global_one() -> None:
    import parsl
    from parsl.errors import NoDataFlowKernelError

    one, two = (ParslThreadConfig(max_threads=1).get_executor() for _ in range(2))
    with pytest.raises(NoDataFlowKernelError):
        parsl.dfk()
    assert (one.submit(add, 1).result(PATIENCE), two.submit(add, 2).result(PATIENCE)) == (1, 2)
    one.shutdown()
    assert two.submit(add, 3).result(PATIENCE) == 3
    two.shutdown()


def test_an_interrupted_run_does_not_wait(htex: ParslExecutor, tmp_path: Path) -> None:
    begin = time.monotonic()
    with contextlib.suppress(KeyboardInterrupt), Engine(htex) as engine:
        held = engine.submit(hold, str(tmp_path / "never"))
        raise KeyboardInterrupt
    assert held.cancelled()
    assert time.monotonic() - begin < PATIENCE / 2  # `hold` gives up after a minute


def test_arguments_that_cannot_travel_fail_their_task(htex: ParslExecutor) -> None:
    lock = htex.submit(identity, threading.Lock())
    assert lock.exception(PATIENCE) is not None
    assert htex.submit(identity, 1).result(PATIENCE) == 1


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(BrokenError, match=r"cannot listen at 192\.0\.2\.1"):
        ParslHTEXConfig(workers=1, address="192.0.2.1").get_executor()


def test_without_parsl_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "parsl", None)
    for config in (ParslThreadConfig(), ParslHTEXConfig()):
        with pytest.raises(MissingExtraError, match=r"isthmus\[parsl\]"):
            config.get_executor()


FILES = """
[app]
name = "cholesky"
matrix_size = 100
block_size = 25

[engine.executor]
name = "parsl-htex"
max_workers_per_node = 2

[engine.filter]
name = "object-size"
min_size = 1000
max_size = 1000000

[engine.transformer]
name = "proxystore"

[engine.transformer.connector]
kind = "file"
options = { store_dir = "here" }

[run]
dir_format = "{name}_{executor}"
"""


def test_figures_2_4_and_2_6_with_parsl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.toml").write_text(FILES)
    assert main(["run", "--config", "config.toml"]) == 0
    assert "verified  ‖A-LLᵀ‖/‖A‖" in (said := capsys.readouterr().out)
    assert "(start " in said
    assert Path("here").exists()
    assert "workers = 2" in Path("cholesky_parsl-htex/config.toml").read_text()
    assert len(list(read_records(Path("cholesky_parsl-htex/tasks.jsonl")))) == 20
    again = ["run", "--config", "cholesky_parsl-htex/config.toml"]
    threads = ["--engine.executor", "parsl-local-thread", "--engine.executor.max-threads", "2"]
    assert (
        main(
            [
                "run",
                "--app",
                "cholesky",
                "--app.matrix-size",
                "40",
                "--app.block-size",
                "20",
                *threads,
            ]
        )
        == 0
    )
    assert main([*again, "--run.dir-format", "again", "--engine.executor.run-dir", "parsl"]) == 0
    assert Path("parsl/000").is_dir()


SCRIPT = """
import os, sys, time
from isthmus.bench.engine import Engine
from isthmus.bench.executor.configs import ParslHTEXConfig

OFFSET = 40

class Pair:
    def __init__(self, left, right):
        self.left, self.right = left, right

def helper(x):
    return Pair(x, OFFSET)

def both(x):
    return helper(x)

def whole(pair):
    assert isinstance(pair, Pair)
    return pair.left + pair.right

def forever():
    time.sleep(600)

if __name__ == "__main__":
    executor = ParslHTEXConfig(workers=1).get_executor()
    if sys.argv[1:] == ["hang"]:
        provider = executor._executor.provider
        executor.submit(forever)
        pool = next(iter(provider.resources.values())).pid
        print(pool, executor._executor.interchange_proc.pid, flush=True)
        time.sleep(600)
    with Engine(executor) as engine:
        print(engine.submit(whole, engine.submit(both, 2)).result())
        print(isinstance(engine.submit(both, 2).result(), Pair))
"""


def test_functions_and_classes_of_a_script_travel_with_what_they_use(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["42", "True"]


def test_a_killed_client_takes_everything_along(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, "script.py", "hang"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as client:
        assert client.stdout is not None
        groups = [int(pid) for pid in client.stdout.readline().split()]
        parts = [psutil.Process(pid) for pid in groups]
        parts += parts[0].children(recursive=True)
        client.send_signal(signal.SIGKILL)
    assert len(parts) >= 4  # pool and interchange, a worker, a process of the pool's own
    deadline = time.monotonic() + PATIENCE
    for part in parts:
        with contextlib.suppress(psutil.NoSuchProcess):
            while part.status() != psutil.STATUS_ZOMBIE:  # of init, which looks now and then
                assert time.monotonic() < deadline, part
                time.sleep(0.02)
