"""Many threads at one store, and what its cache keeps and hands out."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

from isthmus import store as store_package
from isthmus.codec import deserialize
from isthmus.connectors.memory import MemoryConnector
from isthmus.proxy import extract, get_factory, resolve_async
from isthmus.store import (
    Store,
    StoreConfig,
    get_or_create_store,
    get_store,
    names,
)
from isthmus.store.background import RESOLVE_THREADS


class Reads(MemoryConnector):
    """A memory connector that counts what is read from it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reads: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()

    def get(self, key: Any) -> Any:
        self.reads.append(key)
        self.gate.wait(10)
        return super().get(key)


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Reads]:
    yield Reads(request.node.name)
    MemoryConnector(request.node.name).clear()


# -- threads -------------------------------------------------------------------------------------


def test_one_key_is_fetched_once_by_many_threads(counted: Reads) -> None:
    with Store("once", counted) as store, ThreadPoolExecutor(8) as pool:
        key = store.put([1, 2, 3])
        counted.gate.clear()
        got = [pool.submit(store.get, key) for _ in range(8)]
        counted.gate.set()
        assert len({id(g.result(10)) for g in got}) == 1
        assert len(counted.reads) == 1


def test_threads_resolve_different_objects_at_the_same_time(counted: Reads) -> None:
    together = threading.Barrier(4)
    counted.gate.wait = lambda timeout: bool(together.wait(timeout)) or True  # type: ignore[method-assign]
    with Store("parallel", counted) as store, ThreadPoolExecutor(4) as pool:
        proxies = [store.proxy([i]) for i in range(4)]
        # The barrier breaks, and with it this test, unless all four are in the channel at once.
        assert list(pool.map(extract, proxies)) == [[0], [1], [2], [3]]


def test_async_resolve_starts_when_called(counted: Reads) -> None:
    with Store("async", counted, cache_size=0) as store:
        proxy = store.proxy([1])
        started = threading.Event()
        counted.gate.wait = lambda timeout: started.set() or True  # type: ignore[func-returns-value,method-assign]
        future = resolve_async(proxy)
        assert started.wait(10)
        future.result(10)
        assert proxy == [1]
        assert len(counted.reads) == 1


def test_async_resolve_of_a_factory(store: Store) -> None:
    factory = get_factory(store.proxy("x"))
    future = factory.resolve_async()
    assert future.result(10) == "x"
    assert factory() == "x"


def test_a_child_fetches_for_itself_what_its_parent_had_begun(counted: Reads) -> None:
    with Store("forked", counted) as store:
        proxy = store.proxy([1])
        counted.gate.clear()
        future = resolve_async(proxy)
        pid = os.fork()
        if not pid:
            signal.alarm(10)
            counted.gate = threading.Event()
            counted.gate.set()
            os._exit(0 if proxy == [1] else 1)
        counted.gate.set()
        assert future.result(10) == [1]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_closing_forgets_fetches_that_have_not_begun(counted: Reads) -> None:
    store = Store("cancelled", counted, cache_size=0)
    proxies = [store.proxy([i]) for i in range(RESOLVE_THREADS + 2)]
    counted.gate.clear()
    pending = [resolve_async(proxy) for proxy in proxies]
    while len(counted.reads) < RESOLVE_THREADS:
        time.sleep(0)
    closing = threading.Thread(target=store.close)
    closing.start()
    wait(pending[-2:], 10)  # cancelled
    counted.gate.set()
    closing.join()
    assert proxies == [[i] for i in range(len(proxies))]
    store = get_store(proxies[-1])
    assert store is not None
    store.close()


def test_threads_that_open_one_store_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = StoreConfig("together", "memory", {"name": "together"})
    together = threading.Barrier(2)
    found = names.get_store

    def slow(which: Any) -> Any:
        store = found(which)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)  # two that found none before either opened it
        return store

    monkeypatch.setattr(store_package, "get_store", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(get_or_create_store, [config, config])
    with one:
        assert one is other


# -- the cache -----------------------------------------------------------------------------------


class Slow(MemoryConnector):
    """A memory connector whose answers to other threads than the main one wait until told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.read, self.go_on = threading.Event(), threading.Event()

    def get(self, key: Any) -> Any:
        data = super().get(key)
        if threading.current_thread() is not threading.main_thread():
            self.read.set()
            self.go_on.wait(10)
        return data


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("how", ["evict", "clear", "resolve"])
def test_what_is_evicted_while_it_is_fetched_is_not_kept(batch: bool, how: str) -> None:
    with Store("stale", Slow("stale")) as store, ThreadPoolExecutor(1) as pool:
        slow: Any = store.connector
        key = store.put([1])
        late = pool.submit(store.get_batch, [key]) if batch else pool.submit(store.get, key)
        slow.read.wait(10)
        if how == "evict":
            store.evict(key)
        elif how == "clear":
            store.clear()
        else:
            assert store.proxy_from_key(key, evict=True) == [1]
        assert store.get(key) is None, "nor is the fetch under way joined"
        slow.go_on.set()
        assert late.result(10) == ([[1]] if batch else [1])
        assert store.get(key) is None


def test_the_cache_hands_out_shared_objects_and_size_zero_isolates(
    make: Callable[..., Store],
) -> None:
    sharing, isolating = make(cache_size=4), make(cache_size=0)
    key = sharing.put([1])
    assert sharing.get(key) is sharing.get(key)
    isolating.get(key).append(2)
    assert isolating.get(key) == [1]


def test_writing_to_an_isolated_array_stays_private(make: Callable[..., Store]) -> None:
    store = make(cache_size=0)
    key = store.put(np.zeros(100_000))
    mine = store.get(key)
    if store.connector.kind == "memory":
        # There is nobody else's memory to protect it with, so what is shared is read-only.
        with pytest.raises(ValueError, match="read-only"):
            mine[:] = 7
    else:
        mine[:] = 7
        assert mine.sum() == 700_000
    assert store.get(key).sum() == 0


def test_changing_the_original_does_not_reach_the_store(store: Store) -> None:
    array = np.zeros(50_000)
    key = store.put(array)
    array[:] = 1
    assert store.get(key).sum() == 0


@pytest.mark.parametrize("obj", ["word", b"bytes", 3, 2.5, None, True])
def test_process_memory_holds_what_nobody_can_change_by_reference(obj: Any) -> None:
    with Store("held", MemoryConnector("held")) as store:
        key = store.put(obj)
        assert store.get(key) is obj
        assert store.get_batch([key]) == [obj]
        assert deserialize(store.connector.get(key)) == obj  # type: ignore[arg-type]
        store.clear()


def test_process_memory_holds_anything_on_a_promise() -> None:
    with Store("promised", MemoryConnector("promised")) as store:
        array = np.zeros(3)
        assert store.get(store.put(array, copy=False)) is array
        assert extract(store.proxy(array, copy=False)) is array
        copied = store.get(store.put(array))
        array[:] = 1
        assert copied.sum() == 0
        store.clear()


def test_a_deserializer_of_its_own_leaves_the_cache_alone(store: Store) -> None:
    key = store.put("text")
    assert store.get(key, deserializer=lambda data: len(data)) != "text"
    assert store.get(key) == "text"


def test_extra_keywords_reach_the_connector(counted: Reads) -> None:
    with Store("keywords", counted) as store:
        with pytest.raises(TypeError, match="tag"):
            store.put(1, tag="x")
        with pytest.raises(TypeError, match="tag"):
            store.proxy(1, tag="x")
