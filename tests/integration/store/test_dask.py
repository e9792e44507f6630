"""Proxies through Dask: nothing on the client or the scheduler resolves them (dissertation, 3.6.2)."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.connectors.file import FileConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.proxy import Proxy, is_resolved
from isthmus.store import Future, Store

distributed = pytest.importorskip("distributed")

pytestmark = [
    # A worker's store, and with it its space, is open for as long as the worker lives.
    pytest.mark.leaks_allowed(".open", ".ledger", "spill"),
    pytest.mark.leaks_allowed(
        "asyncio",
        "IO loop",
        "Profile",
        "Dask",
        "pipe:",
        "eventpoll",
        "socket:",
        "ThreadPoolExecutor",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["shm", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    connector: Any = (
        SharedMemoryConnector(name) if request.param == "shm" else FileConnector(tmp_path)
    )
    with Store(name, connector) as store:
        yield store
        store.clear()


def seen_by_task(array: Any) -> tuple[bool, int, float]:
    before = is_resolved(array)
    return before, os.getpid(), float(np.sum(array))


@pytest.mark.parametrize("pure", [None, True, False])
@pytest.mark.parametrize("how", ["bare", "nested", "keyword"])
def test_a_proxy_reaches_the_task_unresolved(
    client: Any, store: Store, pure: bool | None, how: str
) -> None:
    proxy = store.proxy(np.ones(100_000))
    options = {} if pure is None else {"pure": pure}
    if how == "bare":
        future = client.submit(seen_by_task, proxy, **options)
    elif how == "keyword":
        future = client.submit(seen_by_task, array=proxy, **options)
    else:
        future = client.submit(lambda box: seen_by_task(box["in"][0]), {"in": [proxy]}, **options)
    before, pid, total = future.result(60)
    assert (before, total) == (False, 100_000.0)
    assert pid != os.getpid()
    assert not is_resolved(proxy)


def test_tokens_come_from_the_key(store: Store) -> None:
    from dask.base import tokenize

    one, other = store.proxy(np.ones(10)), store.proxy(np.ones(10))
    assert tokenize(one) == tokenize(one) != tokenize(other)
    assert not is_resolved(one)


def test_scatter_and_gather_of_a_proxy(client: Any, store: Store) -> None:
    proxy = store.proxy(np.ones(1000))
    (future,) = client.scatter([proxy])
    assert not is_resolved(proxy)
    back = client.submit(lambda p: p, future).result(60)
    assert isinstance(back, Proxy)
    assert back.sum() == 1000


def test_listing_3_21_a(client: Any, store: Store) -> None:
    future = client.submit(sum, store.proxy([1, 2, 3]))
    assert future.result(60) == 6


def set_to(future: Future[Any], value: Any) -> int:
    future.set_result(value)
    return os.getpid()


def length_of(data: Any) -> tuple[bool, int]:
    return is_resolved(data), len(data)


@pytest.mark.parametrize("cls", [None, str])
@pytest.mark.parametrize("how", ["bare", "nested", "keyword"])
def test_the_proxy_of_a_future_reaches_the_task_unresolved(
    client: Any, store: Store, cls: type[str] | None, how: str
) -> None:
    """The one worker runs the producer after the client let go of the consumer's argument."""
    future: Future[str] = store.future(cls, timeout=60)
    proxy = future.proxy()
    if how == "nested":
        consume = (lambda box: length_of(box["in"][0]), {"in": [proxy]})
    else:
        consume = (length_of, proxy)
    first = client.submit(set_to, future, "value", pure=False)
    args, options = (consume[1:], {}) if how != "keyword" else ((), {"data": proxy})
    second = client.submit(consume[0], *args, **options, pure=False)
    assert second.result(60) == (False, 5)
    assert first.result(60) != os.getpid()
    assert not is_resolved(proxy)
    assert future.result() == "value"


def test_tokens_of_futures_and_their_proxies_come_from_the_key(store: Store) -> None:
    from dask.base import tokenize

    one, other = store.future(timeout=0), store.future(timeout=0)
    assert tokenize(one) == tokenize(one) != tokenize(other)
    assert tokenize(one.proxy()) == tokenize(one.proxy()) != tokenize(other.proxy())


def test_listing_4_4(client: Any, store: Store) -> None:
    def producer(future: Future[str]) -> None:
        future.set_result("value")

    def consumer(data: Proxy[str]) -> None:
        assert data == "value"

    future: Future[str] = store.future()
    t1 = client.submit(producer, future)
    t2 = client.submit(consumer, future.proxy())
    t1.result(60), t2.result(60)


def fail_to(future: Future[Any]) -> None:
    try:
        raise OSError(5, "broken in the producer")
    except OSError as error:
        error.add_note("a note")
        future.set_exception(error)


CONSUMER = """
import sys, traceback
sys.modules["tblib"] = None  # not installed here
from isthmus.store import Store
store = Store.from_config({config!r})
found = store.get(store.connector.key_type(*{key!r})).error
text = "".join(traceback.format_exception(found))
print(type(found).__name__, found.errno, found.__notes__, text.count("in fail_to"), found.__traceback__)
store.close()
"""


def test_an_exception_needs_nothing_of_dasks_where_it_arrives(client: Any, store: Store) -> None:
    """`distributed` has tblib pickle every exception of its processes."""
    future: Future[Any] = store.future(timeout=60)
    client.submit(fail_to, future).result(60)
    error = future.exception()
    assert isinstance(error, OSError)
    assert "".join(traceback.format_exception(error)).count("in fail_to") == 1
    script = CONSUMER.format(config=store.config().config(), key=tuple(future.key))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "OSError 5 ['a note'] 1 None\n", ran.stderr
