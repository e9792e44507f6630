"""Futures between processes: set in one, awaited in another, whoever is killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import errors
from isthmus.connectors.encrypted import EncryptedConnector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.multi import MultiConnector
from isthmus.connectors.policy import Policy
from isthmus.connectors.redis import RedisConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.proxy import is_resolved, resolve_async
from isthmus.store import Future, Store
from isthmus.testing.servers import RedisServer

METHODS = ("fork", "spawn")


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
        store.clear()


@pytest.fixture(params=METHODS)
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context(request.param)
    with ProcessPoolExecutor(2, context) as pool:
        yield pool
    from multiprocessing import resource_tracker

    resource_tracker._resource_tracker._stop()  # it would stay for the rest of this process's life


def produce(future: Future[Any], value: Any) -> int:
    future.set_result(value)
    return os.getpid()


def fail(future: Future[Any]) -> None:
    try:
        raise LookupError("in the producer")
    except LookupError as error:
        future.set_exception(error)


def consume(array: Any) -> tuple[bool, float, int]:
    before = is_resolved(array)
    return before, float(np.sum(array)), os.getpid()


def die(future: Future[Any], started: Any) -> None:
    started.set()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_consumer_starts_before_its_producer(store: Store, pool: ProcessPoolExecutor) -> None:
    future: Future[Any] = store.future(timeout=60)
    proxy = future.proxy()
    consumer = pool.submit(consume, proxy)
    producer = pool.submit(produce, future, np.ones(200_000))
    assert not is_resolved(proxy)
    before, total, pid = consumer.result(60)
    assert (before, total) == (False, 200_000.0)
    assert len({pid, producer.result(60), os.getpid()}) == 3
    assert consume(proxy)[1] == 200_000.0


def test_an_exception_crosses_with_its_traceback(store: Store, pool: ProcessPoolExecutor) -> None:
    future: Future[Any] = store.future(timeout=60)
    consumer = pool.submit(consume, future.proxy())
    pool.submit(fail, future).result(60)
    with pytest.raises(LookupError, match="in the producer"):
        consumer.result(60)
    with pytest.raises(LookupError) as caught:
        future.result()
    assert "in fail" in str(caught.value.__cause__)


def test_only_one_of_two_producers_sets(store: Store, pool: ProcessPoolExecutor) -> None:
    future: Future[Any] = store.future(timeout=60)
    tries = [pool.submit(produce, future, number) for number in range(2)]
    lost = [one.exception(60) for one in tries]
    assert sum(error is None for error in lost) == 1
    (error,) = filter(None, lost)
    assert isinstance(error, errors.AlreadySetError)
    assert lost[future.result()] is None


def test_a_killed_producer_holds_no_consumer_beyond_its_timeout(store: Store) -> None:
    future: Future[Any] = store.future(timeout=0.05)
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=die, args=(future, started))
    process.start()
    assert started.wait(60)
    with pytest.raises(errors.WaitTimeoutError, match="does its producer live"):
        consume(future.proxy())
    with pytest.raises(errors.WaitTimeoutError):
        resolve_async(future.proxy()).result(60)

    async def wait() -> None:
        await future

    with pytest.raises(errors.WaitTimeoutError):
        asyncio.run(wait())
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(store.connector.list()) == []  # type: ignore[attr-defined]
    process.close()


def test_many_are_awaited_from_another_process(store: Store, pool: ProcessPoolExecutor) -> None:
    futures: list[Future[int]] = [store.future(timeout=60) for _ in range(100)]

    async def gather() -> list[int]:
        return await asyncio.gather(*futures)

    setting = [pool.submit(produce, future, n) for n, future in reversed([*enumerate(futures)])]
    assert asyncio.run(gather()) == list(range(100))
    for one in setting:
        one.result(60)


def test_a_forked_child_waits_for_itself(store: Store) -> None:
    future: Future[int] = store.future(timeout=60)
    here = resolve_async(future.proxy())
    pid = os.fork()
    if not pid:
        signal.alarm(30)
        os._exit(0 if resolve_async(future.proxy()).result(30) == 5 else 1)
    future.set_result(5)
    assert here.result(60) == 5
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("how", ["multi", "encrypted"])
def test_futures_pass_through_connectors_of_connectors(
    how: str, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = RedisConnector("127.0.0.1", server.port, prefix=uuid.uuid4().hex)
    connector: Any
    if how == "multi":
        connector = MultiConnector({"redis": (inner, Policy())})
    else:
        monkeypatch.setenv("KEY", "0f" * 32)
        connector = EncryptedConnector(inner, ["env:KEY"])
    with Store(uuid.uuid4().hex, connector) as store:
        future: Future[list[int]] = store.future(list, timeout=60)
        proxy = future.proxy()
        pending = resolve_async(proxy)
        future.set_result([1, 2])
        assert pending.result(60) == [1, 2]
        with pytest.raises(errors.AlreadySetError):
            future.set_result([3])
        store.clear()


def test_a_server_that_goes_away_ends_the_waiting() -> None:
    with RedisServer() as server:
        connector = RedisConnector("127.0.0.1", server.port)
        store = Store(uuid.uuid4().hex, connector)
        future: Future[int] = store.future()
        pending = resolve_async(future.proxy())
        assert not future.done()
    with pytest.raises(errors.BrokenError):
        pending.result(60)
    store.close()


if sys.version_info >= (3, 12):  # forking beside our own threads is what these tests are about
    pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
