"""A store's proxies in other processes: every start method, scripts, forks in bad moments."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import errors
from isthmus.connectors.file import FileConnector
from isthmus.connectors.memory import MemoryConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.proxy import Proxy, is_resolved
from isthmus.store import Store, get_store

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(params=["shm", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    connector: Any = (
        SharedMemoryConnector(name, spill_dir=str(tmp_path / "spill"))
        if request.param == "shm"
        else FileConnector(tmp_path)
    )
    with Store(name, connector) as store:
        yield store
        store.clear()


def total(array: Any) -> tuple[float, bool, int]:
    was_resolved = is_resolved(array)
    return float(array.sum()), was_resolved, os.getpid()


def make_proxy(store: Store, n: int) -> Proxy[Any]:
    return store.proxy(np.full(n, 2.0))


def store_of(proxy: Any) -> tuple[str, str]:
    store = get_store(proxy)
    assert store is not None
    assert get_store(store.name) is store
    return store.name, store.connector.kind


@pytest.fixture
def context(method: str) -> Iterator[Any]:
    yield multiprocessing.get_context(method)
    # They would stay for the rest of this process's life.
    forkserver._forkserver._stop()
    resource_tracker._resource_tracker._stop()


@pytest.mark.parametrize("method", METHODS)
def test_a_proxy_resolves_in_a_process_started_by(context: Any, store: Store) -> None:
    small, large = store.proxy(np.arange(10)), store.proxy(np.ones(300_000))
    with ProcessPoolExecutor(1, context) as pool:
        for proxy, expected in ((small, 45.0), (large, 300_000.0)):
            result, was_resolved, pid = pool.submit(total, proxy).result(60)
            assert (result, was_resolved) == (expected, False)
            assert pid != os.getpid()
        assert pool.submit(store_of, small).result(60) == (store.name, store.connector.kind)
        back = pool.submit(pickle.dumps, large).result(60)
    assert pickle.loads(back).sum() == 300_000


def test_objects_made_in_a_child_resolve_in_the_parent(store: Store) -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        small = pool.submit(_made_here, store.config(), 10).result(60)
        large = pool.submit(_made_here, store.config(), 200_000).result(60)
    # Their maker has ended; what it committed stays.
    assert (small.sum(), large.sum()) == (20.0, 400_000.0)


def _made_here(config: Any, n: int) -> Proxy[Any]:
    with Store.from_config(config) as store:
        return store.proxy(np.full(n, 2.0))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_process_memory_cannot_be_reached_from_another_process(context: Any) -> None:
    with Store("mine", MemoryConnector("mine")) as store, ProcessPoolExecutor(1, context) as pool:
        pool.submit(int).result(60)  # forked now, before there is anything to inherit
        proxy = store.proxy([1])
        with pytest.raises(errors.ElsewhereError, match="use the shm connector"):
            pool.submit(len, proxy).result(60)
        store.clear()


def test_a_fork_while_threads_fetch_leaves_a_child_that_works(store: Store) -> None:
    keys = [store.put(np.full(20_000, i)) for i in range(20)]
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for key in keys:
                store.get(key)

    threads = [threading.Thread(target=churn) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        context = multiprocessing.get_context("fork")
        for _ in range(5):
            child = context.Process(target=_check_all, args=(store, keys))
            child.start()
            child.join(60)
            assert child.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _check_all(store: Store, keys: list[Any]) -> None:
    for i, key in enumerate(keys):
        assert store.get(key)[0] == i
    key = store.put("from the child")
    assert store.get(key) == "from the child"
    store.evict(key)


SCRIPT = """
    import sys
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing
    from isthmus.codec import deserialize, serialize
    from isthmus.connectors.file import FileConnector
    from isthmus.store import Store

    class Model:
        def __init__(self, weight):
            self.weight = weight

    def to_bytes(obj):
        return b"M" + str(obj.weight).encode() if isinstance(obj, Model) else b"-" + serialize(obj)

    def from_bytes(data):
        data = bytes(data)
        return Model(int(data[1:])) if data[:1] == b"M" else deserialize(data[1:])

    if __name__ == "__main__":
        store = Store("script", FileConnector(sys.argv[1]), serializer=to_bytes, deserializer=from_bytes)
        proxy, plain = store.proxy(Model(41)), Store("plain", FileConnector(sys.argv[1])).proxy(Model(1))
        print(store.get(store.put([1])))
        import pickle
        open(sys.argv[2], "wb").write(pickle.dumps((proxy, plain)))
"""

READER = """
    import pickle, sys
    proxy, plain = pickle.load(open(sys.argv[1], "rb"))
    print(proxy.weight + plain.weight, type(plain.weight))
"""


def run(script: Path, source: str, *args: str) -> subprocess.CompletedProcess[str]:
    script.write_text(textwrap.dedent(source))
    return subprocess.run(
        [sys.executable, str(script), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_a_script_defines_travels_by_value(tmp_path: Path) -> None:
    proxies = str(tmp_path / "proxies.pickle")
    made = run(tmp_path / "make.py", SCRIPT, str(tmp_path / "objects"), proxies)
    assert made.returncode == 0, made.stderr
    assert made.stdout == "[1]\n"
    read = run(tmp_path / "read.py", READER, proxies)
    assert read.stdout == "42 <class 'int'>\n", read.stderr


def test_the_default_store_works_without_arguments() -> None:
    code = """
        from isthmus.store import Store
        with Store() as store:
            proxy = store.proxy([1, 2, 3], evict=True)
            print(sum(proxy), store.connector.kind)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("6 shm\n", "")


def test_a_proxy_from_another_host_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"test-{uuid.uuid4().hex[:8]}"
    with Store(name, SharedMemoryConnector(name)) as store:
        small, large = (pickle.dumps(store.proxy(x)) for x in ("word", np.ones(300_000)))
        code = f"""
            import pickle
            from isthmus.connectors.shm import area
            area.host_id = lambda salt: "0badcafe"
            for data in ({small!r}, {large!r}):
                try:
                    len(pickle.loads(data))
                except Exception as error:
                    print(type(error).__name__, error)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.count("ElsewhereError") == 2, done.stdout + done.stderr
        assert "use a file connector on a shared file system" in done.stdout
        store.clear()
