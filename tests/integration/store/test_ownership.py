"""Owned objects among real processes and engines: tasks that fail, workers and owners that are killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from isthmus import errors
from isthmus.connectors.file import FileConnector
from isthmus.connectors.redis import RedisConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.proxy import Proxy
from isthmus.store import OwnedProxy, Store, borrow, clone, drop, mut_borrow, update
from isthmus.store.executor import (
    ProxyAlways,
    ProxyNever,
    ProxySize,
    ProxyType,
    StoreExecutor,
)
from isthmus.store.scopes import submit
from isthmus.testing.servers import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["shm", "file", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer) -> Iterator[Store]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    connector: Any
    if request.param == "shm":
        connector = SharedMemoryConnector(name, spill_dir=str(tmp_path / "spill"))
    elif request.param == "file":
        connector = FileConnector(tmp_path)
    else:
        connector = RedisConnector("127.0.0.1", server.port, prefix=name)
    with Store(name, connector) as store:
        yield store
        emptied(store)


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        yield pool


def count(store: Store) -> int:
    return len(list(store.connector.list()))  # type: ignore[attr-defined]


def emptied(store: Store) -> None:
    """Wait until nothing is left: leases run out, and callbacks come after results."""
    deadline = time.monotonic() + 60
    while count(store):
        assert time.monotonic() < deadline, list(store.connector.list())  # type: ignore[attr-defined]
        store.connector.sweep()  # type: ignore[attr-defined]
        time.sleep(0.01)


def append(target: Any, item: Any) -> int:
    target.append(item)
    update(target)
    return len(target)


def same(target: Any) -> Any:
    return target


def made(size: int) -> Any:
    return bytes(size)


def fail(target: Any) -> None:
    raise LookupError(len(target))


def fail_once(flag: str, *targets: Any) -> int:
    path = Path(flag)
    if not path.exists():
        path.touch()
        raise LookupError("the first time")
    return sum(map(sum, targets))


def die(target: Any) -> None:
    assert len(target)
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_rules_hold_across_processes(store: Store, pool: ProcessPoolExecutor) -> None:
    owned = store.owned_proxy([1, 2, 3])
    assert submit(pool.submit, args=(sum, borrow(owned))).result() == 6
    assert submit(pool.submit, args=(append, mut_borrow(owned), 4)).result() == 4
    assert owned == [1, 2, 3, 4]
    moved = submit(pool.submit, args=(same, owned)).result()
    with pytest.raises(errors.MovedError):
        len(owned)
    assert isinstance(moved, OwnedProxy)
    assert moved == [1, 2, 3, 4]
    failed = submit(pool.submit, args=(fail, clone(moved)))
    assert isinstance(failed.exception(), LookupError)
    assert submit(pool.submit, args=(sum, moved)).result() == 10


def test_a_killed_worker_takes_nothing_with_it_that_is_lent(store: Store) -> None:
    owned = store.owned_proxy([1])
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        lent = submit(pool.submit, args=(die, borrow(owned)))
        assert isinstance(lent.exception(), BrokenProcessPool)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        given = submit(pool.submit, args=(die, clone(owned)))
        assert isinstance(given.exception(), BrokenProcessPool)
    assert owned == [1]
    drop(owned)


def test_a_killed_owner_leaves_nothing_beyond_its_lease(store: Store) -> None:
    script = f"""
import os, signal
from isthmus.store import Store, StoreConfig
store = Store.from_config(StoreConfig.unpack({store.config().pack()!r}))
kept = [store.owned_proxy([1], lease=0.2) for _ in range(3)]
os.kill(os.getpid(), signal.SIGKILL)
""".replace("StoreConfig.unpack", "unpack").replace(
        "Store, StoreConfig", "Store\nfrom isthmus.store.config import unpack"
    )
    mine = store.owned_proxy([2], lease=0.2)
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while count(store) > 1:
        assert time.monotonic() < deadline
        store.connector.sweep()  # type: ignore[attr-defined]
        time.sleep(0.01)
    assert mine == [2], "a live owner's stays"
    drop(mine)


def test_what_a_process_owns_goes_when_it_exits(store: Store) -> None:
    script = f"""
from isthmus.store import Store
from isthmus.store.config import unpack
store = Store.from_config(unpack({store.config().pack()!r}))
kept = store.owned_proxy([1])
cycle = [store.owned_proxy([2])]; cycle.append(cycle)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)
    assert count(store) == 0


def test_a_fork_owns_nothing(store: Store) -> None:
    owned = store.owned_proxy([1])
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        refused = False
        try:
            drop(owned)
        except errors.OwnershipError as error:
            refused = "of which this one is a fork" in str(error)
        good = refused and owned == [1]
        del owned
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert owned == [1]
    drop(owned)


@pytest.mark.parametrize("ownership", [True, False])
@pytest.mark.parametrize("kind", ["process", "thread"])
def test_an_executor_leaves_nothing(store: Store, kind: str, ownership: bool) -> None:
    client = (
        ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
        if kind == "process"
        else ThreadPoolExecutor(2)
    )
    policy = ProxyType(list, bytes)
    with StoreExecutor(client, store, should_proxy=policy, ownership=ownership) as executor:
        result = executor.submit(made, 100).result()
        assert isinstance(result, OwnedProxy) == ownership
        assert isinstance(result, Proxy)
        assert result == bytes(100)
        assert executor.submit(sum, [1, 2, 3]).result() == 6
        assert executor.submit(same, [1]).result() == [1]
        assert executor.submit(same, target=[1]).result() == [1]
        with pytest.raises(LookupError) as caught:
            executor.submit(fail, [1, 2]).result()
        assert caught.value.args == (2,)
        lists = executor.map(same, [[1], [2], [3]], chunksize=2)
        assert [list(one) for one in lists] == [[1], [2], [3]]
        assert list(executor.map(pow, [2, 3], [2, 2], timeout=60)) == [4, 9]
        with pytest.raises(LookupError):
            list(executor.map(fail, [[1], [2]]))
        many = [executor.submit(sum, [number]) for number in range(200)]
        assert sum(future.result() for future in many) == sum(range(200))
        del result, caught, lists
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(sum, [1])
    executor.shutdown()
    assert count(store) == 0


def hold(path: str, target: Any) -> int:
    while not Path(path).exists():
        time.sleep(0.001)
    return sum(target)


def test_cancelled_tasks_leave_nothing(store: Store, tmp_path: Path) -> None:
    executor = StoreExecutor(
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")),
        store,
        should_proxy=ProxyType(list),
    )
    flag = tmp_path / "go"
    futures = [executor.submit(hold, str(flag), [number]) for number in range(20)]
    assert futures[-1].cancel()
    flag.touch()
    executor.shutdown(cancel_futures=True)
    assert any(future.cancelled() for future in futures)
    assert count(store) == 0


def test_a_broken_pool_leaves_nothing(store: Store) -> None:
    with StoreExecutor(
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")),
        store,
        should_proxy=ProxyAlways(),
    ) as executor:
        futures = [executor.submit(die, [number]) for number in range(5)]
        for future in futures:
            assert isinstance(future.exception(), BrokenProcessPool)
    assert count(store) == 0


def refuses(obj: Any) -> bool:
    if obj == 13:
        raise ValueError("a policy's own")
    return True


def test_policies(store: Store) -> None:
    assert ProxyAlways()(1)
    assert not ProxyNever()(1)
    assert ProxyType(int, str)(True)
    assert not ProxyType(int)("a")
    assert repr(ProxyType(int)) == "ProxyType(int)"
    small = ProxySize(10, 1000)
    assert [small(one) for one in (b"123", bytes(100), bytes(2000), "x" * 10, [1] * 100)] == [
        False,
        True,
        False,
        True,
        True,
    ]
    with StoreExecutor(ThreadPoolExecutor(1), store, should_proxy=refuses) as executor:
        with pytest.raises(ValueError, match="own"):
            executor.submit(pow, 12, 13)
        with pytest.raises(ValueError, match="chunksize"):
            executor.map(pow, [1], chunksize=0)
    with StoreExecutor(
        ThreadPoolExecutor(1), store, should_proxy=lambda obj: {"lease": None}
    ) as executor:
        result = executor.submit(pow, 2, 5).result()
        assert result == 32
        drop(result)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with cluster.get_client() as client:
        yield client


# A worker's store is open, and its threads and sockets stay, for as long as the cluster lives.
dask = pytest.mark.leaks_allowed(
    ".open",
    ".ledger",
    "spill",
    ".seen",
    ".seg",
    ".part",
    "asyncio",
    "IO loop",
    "Profile",
    "Dask",
    "pipe:",
    "eventpoll",
    "eventfd",
    "socket:",
    "TCP",
    "semaphore",
    "global.lock",
    "purge.lock",
    "dirlock",
    "urandom",
)


@dask
def test_dask(store: Store, client: Any, tmp_path: Path) -> None:
    owned = store.owned_proxy([1, 2, 3])
    assert submit(client.submit, args=(sum, borrow(owned))).result() == 6
    assert submit(client.submit, args=(append, mut_borrow(owned), 4)).result() == 4
    assert submit(client.submit, args=(sum, borrow(owned))).result() == 10, "not Dask's cached 6"
    future = submit(client.submit, args=(same, owned))
    moved, again = future.result(), future.result()
    assert moved == again == [1, 2, 3, 4]
    del moved, future
    assert again == borrow(again) == [1, 2, 3, 4]
    failed = submit(client.submit, args=(fail, clone(again)))
    assert isinstance(failed.exception(), LookupError)
    retried = submit(
        client.submit,
        args=(fail_once, str(tmp_path / "flag"), clone(again), borrow(again)),
        kwargs={"retries": 2},
    )
    assert retried.result() == 20
    drop(again)


@dask
def test_an_executor_of_dask_leaves_nothing(store: Store, cluster: Any, tmp_path: Path) -> None:
    with StoreExecutor(cluster.get_client(), store, should_proxy=ProxyType(list)) as executor:
        futures = executor.map(sum, [[number] for number in range(100)])
        assert sum(executor.client.gather(futures)) == sum(range(100))
        flag = str(tmp_path / "flag")
        assert executor.submit(fail_once, flag, [1], [2], retries=2).result() == 3
        assert isinstance(executor.submit(fail, [1]).exception(), LookupError)
        result = executor.submit(same, [1, 2]).result()
        assert isinstance(result, OwnedProxy)
        assert result == [1, 2]
        executor.submit(same, [7] * 10).cancel()
        del futures, result
    emptied(store)


@dask
@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["process", "dask"])
def test_ten_thousand_tasks_leave_nothing(store: Store, engine: str, cluster: Any) -> None:
    client = cluster.get_client() if engine == "dask" else ProcessPoolExecutor(2)
    with StoreExecutor(client, store, should_proxy=ProxyType(list)) as executor:
        for start in range(0, 10_000, 500):
            futures = [executor.submit(same, [number]) for number in range(start, start + 500)]
            assert [future.result()[0] for future in futures] == [*range(start, start + 500)]
            del futures
    emptied(store)


@pytest.mark.extras
def test_loky(store: Store) -> None:
    loky = pytest.importorskip("loky")
    with StoreExecutor(
        loky.ProcessPoolExecutor(2), store, should_proxy=ProxyType(list)
    ) as executor:
        assert executor.submit(sum, [1, 2]).result() == 3
    assert count(store) == 0


if sys.version_info >= (3, 12):  # forking beside our own threads is what these tests are about
    pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
