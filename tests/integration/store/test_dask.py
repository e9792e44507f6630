"""Proxies through Dask: nothing on the client or the scheduler resolves them (dissertation, 3.6.2)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.connectors.file import FileConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.proxy import Proxy, is_resolved
from isthmus.store import Store

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
