"""Lifetimes of real processes: killed, forked, ended, and with a server that goes away."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.file import FileConnector
from isthmus.connectors.redis import RedisConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.errors import BrokenError, LifetimeError
from isthmus.store import Store
from isthmus.store.lifetime import ContextLifetime, LeaseLifetime, StaticLifetime
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
        store.clear()


def count(store: Store) -> int:
    connector: Any = store.connector
    return len(list(connector.list()))


def swept(store: Store) -> int:
    """Sweep until nothing is left; return how many were, when leases of seconds should be over."""
    connector: Any = store.connector
    latest = max((info.until for info in connector.list()), default=0.0)
    assert latest is not None, "an object without a lease stays for ever"
    deadline = time.monotonic() + 30
    while (left := count(store)) and time.monotonic() < deadline:
        time.sleep(max(0.01, min(latest - time.time(), 0.1)))
        connector.sweep()
    return left


def run(store: Store, body: str) -> subprocess.Popen[str]:
    """Run a script that has the store, and wait until it prints "ready"."""
    program = f"""
        import os, sys, signal, time, multiprocessing
        from isthmus.store import Store
        from isthmus.store.lifetime import ContextLifetime, LeaseLifetime, StaticLifetime
        store = Store.from_config({store.config().config()!r})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program) + textwrap.dedent(body)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Let it go on, and return its status and what else it printed."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    with process.stdout:  # not `communicate`: it overlooks what came together with "ready"
        printed = process.stdout.read()
    return process.wait(60), printed


def test_a_killed_process_leaves_nothing_after_its_lease(store: Store) -> None:
    process = run(
        store,
        """
        lease = LeaseLifetime(store, 1)
        for number in range(3):
            store.put(number, lifetime=lease)
        future = store.future(lifetime=lease)
        future.set_result(bytes(300_000))
        store.put_batch([4, 5], lifetime=lease)
        lease.add_key(store.put("added later"))
        lease.extend(0.5)
        print("ready", flush=True)
        time.sleep(600)
        """,
    )
    process.kill()
    assert end(process)[0] == -signal.SIGKILL
    assert swept(store) == 0


def test_a_process_that_ends_leaves_its_leases_to_the_channel(store: Store) -> None:
    process = run(
        store,
        """
        store.put("others may still need it", lifetime=LeaseLifetime(store, 0.5))
        print("ready", flush=True)
        """,
    )
    assert end(process) == (0, "")
    assert swept(store) == 0


def test_a_process_that_ends_evicts_what_is_static(store: Store) -> None:
    process = run(
        store,
        """
        store.put("mine", lifetime=StaticLifetime())
        store.close()
        with Store.from_config(store.config()) as other:
            other.put("mine too", lifetime=StaticLifetime())
        print("ready", flush=True)
        sys.stdin.read()
        """,
    )
    assert count(store) == 2
    assert end(process) == (0, "")
    assert count(store) == 0


CHILD = """
parents = store.put("parent's", lifetime=StaticLifetime())
block = ContextLifetime(store)
also = store.put("in a block", lifetime=block)

def child():
    with block:
        assert StaticLifetime().keys() == []
        store.put("child's", lifetime=StaticLifetime())
        store.put("child's", lifetime=block)
        assert store.exists(parents)
"""

PARENT = """
print("ready", flush=True)
print(store.exists(parents), store.exists(also), len(list(store.connector.list())), flush=True)
block.close()
"""

STARTS = {
    "fork": """
pid = os.fork()
if pid == 0:
    child()
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
""",
    "multiprocessing": """
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 0
""",
}


@pytest.mark.parametrize("how", STARTS)
def test_a_child_evicts_its_own_and_not_its_parents(store: Store, how: str) -> None:
    process = run(store, CHILD + STARTS[how] + PARENT)
    assert end(process) == (0, "True True 2\n")
    assert count(store) == 0


def work(store: Store, name: str) -> int:
    store.put(name, lifetime=StaticLifetime())
    return os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_pool_evict_what_is_theirs(store: Store, method: str) -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import resource_tracker

    mine = store.put("mine", lifetime=StaticLifetime())
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        for done in [pool.submit(work, store, "worker's") for _ in range(4)]:
            assert done.result(60) != os.getpid()
        assert count(store) == 5
    resource_tracker._resource_tracker._stop()  # it would stay for the rest of this process's life
    assert count(store) == 1
    assert store.exists(mine)
    StaticLifetime().close()
    assert count(store) == 0


def test_a_server_that_is_away_for_a_while() -> None:
    with RedisServer() as server:
        connector = RedisConnector("127.0.0.1", server.port)
        with Store(uuid.uuid4().hex, connector) as store:
            lifetime, lease = ContextLifetime(store), LeaseLifetime(store, 600)
            keys = store.put_batch([1, 2, 3], lifetime=lifetime)
            store.put("value", lifetime=lease)
            server.stop()
            with pytest.raises(LifetimeError) as told:
                lifetime.close()
            (error,) = told.value.exceptions
            assert isinstance(error, BrokenError)
            assert [key for _, key in lifetime.keys()] == keys
            with pytest.raises(LifetimeError):
                lease.extend(1)
            with pytest.raises(LifetimeError):
                lease.close()
            server.start()
            lifetime.close()
            lease.close()
            assert lifetime.keys() == lease.keys() == []
            assert count(store) == 0
