"""`resolve_async`: fetching starts when it is called, and whoever uses the proxy waits for that fetch."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import threading
from types import ModuleType

import pytest

from isthmus.proxy import _future
from tests.unit.proxy.gate import Gate


class Pooled(Gate):
    """A factory that fetches in a pool of its own, as a store's."""

    def resolve_async(self) -> concurrent.futures.Future[object]:
        future: concurrent.futures.Future[object] = concurrent.futures.Future()

        def fetch() -> None:
            try:
                future.set_result(Gate.__call__(self))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=fetch, daemon=True).start()
        return future

    def __call__(self) -> object:
        raise AssertionError("its own fetch is under way")


@pytest.fixture(params=[Gate, Pooled])
def slow(request: pytest.FixtureRequest) -> Gate:
    return request.param()  # type: ignore[no-any-return]


def test_the_fetch_starts_at_once(px: ModuleType, slow: Gate) -> None:
    p = px.Proxy(slow)
    future = px.resolve_async(p)
    assert slow.entered.wait(20)
    assert not future.done()
    assert not px.is_resolved(p)
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    slow.open.set()
    assert future.result(timeout=20) == 7
    assert isinstance(future, px.ResolveFuture)
    assert px.is_resolved(p)
    assert p == 7
    assert slow.calls == 1


def test_a_user_waits_for_the_fetch_under_way(px: ModuleType, slow: Gate) -> None:
    p = px.Proxy(slow)
    first, second = px.resolve_async(p), px.resolve_async(p)
    assert slow.entered.wait(20)
    threading.Timer(0.01, slow.open.set).start()
    assert p + 1 == 8
    assert first.result(20) == second.result(20) == 7
    assert slow.calls == 1


def test_an_error_is_in_the_future_and_the_next_use_tries_again(px: ModuleType) -> None:
    slow = Gate(OSError("down"))
    slow.open.set()
    p = px.Proxy(slow)
    error = px.resolve_async(p).exception(20)
    assert error is slow.target
    assert error.__notes__[0].startswith("while resolving <unresolved Proxy from <")
    slow.target = 5
    assert p == 5


def test_an_error_of_a_factory_s_own_pool(px: ModuleType) -> None:
    slow = Pooled(OSError("down"))
    slow.open.set()
    with pytest.raises(OSError, match="down"):
        px.resolve_async(px.Proxy(slow)).result(20)


def test_a_pool_that_refuses(px: ModuleType) -> None:
    class Closed(Gate):
        def resolve_async(self) -> object:
            raise ValueError("the pool is closed")

    future = px.resolve_async(px.Proxy(Closed()))
    assert "the pool is closed" in str(future.exception(20))


def test_a_resolved_proxy_has_a_future_that_is_done(px: ModuleType) -> None:
    p = px.Proxy(lambda: 7)
    px.resolve(p)
    assert px.resolve_async(p).done()
    assert px.resolve_async(p).result() == 7


def test_a_fetch_by_another_thread_is_joined(px: ModuleType) -> None:
    slow = Gate()
    p = px.Proxy(slow)
    user = threading.Thread(target=lambda: p + 1)
    user.start()
    assert slow.entered.wait(20)
    future = px.resolve_async(p)
    assert not future.done()
    slow.open.set()
    assert future.result(20) == 7
    user.join(20)
    assert slow.calls == 1


def test_factories_too(px: ModuleType, slow: Gate) -> None:
    future = px.resolve_async(slow)
    assert slow.entered.wait(20)
    slow.open.set()
    assert future.result(20) == 7


def test_nothing_else(px: ModuleType) -> None:
    with pytest.raises(
        TypeError, match="resolve_async needs a proxy or a factory, got 7 of type int"
    ):
        px.resolve_async(7)


def test_it_can_be_awaited(px: ModuleType) -> None:
    slow = Gate()

    async def main() -> object:
        asyncio.get_running_loop().call_later(0.001, slow.open.set)
        return await px.resolve_async(px.Proxy(slow))

    assert asyncio.run(main()) == 7


def test_many_are_awaited_together_and_a_cancelled_wait_cancels_no_fetch(px: ModuleType) -> None:
    slow = Gate()
    p = px.Proxy(slow)

    async def main() -> object:
        future = px.resolve_async(p)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.001)
        slow.open.set()
        return await asyncio.gather(*(px.resolve_async(q) for q in [p, px.Proxy(lambda: 8)]))

    assert asyncio.run(main()) == [7, 8]
    assert slow.calls == 1


def test_factories_that_use_each_other_do_not_starve(px: ModuleType) -> None:
    """More of them than threads, each needing the next, all queued in the wrong order."""
    count = _future.MAX_THREADS * 3
    proxies: list[object] = []
    for i in range(count):
        proxies.append(px.Proxy(lambda i=i: 0 if i == count - 1 else proxies[i + 1] + 1))
    futures = [px.resolve_async(p) for p in proxies]
    assert [f.result(20) for f in futures] == list(range(count - 1, -1, -1))


def test_a_forked_child_starts_threads_of_its_own(px: ModuleType) -> None:
    slow = Gate()
    p = px.Proxy(slow)
    future = px.resolve_async(p)
    assert slow.entered.wait(20)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            slow.open.set()
            status = 0 if px.resolve_async(p).result(20) == 7 else 2
        finally:
            os._exit(status)
    _, code = os.waitpid(child, 0)
    slow.open.set()
    assert future.result(20) == 7
    assert os.waitstatus_to_exitcode(code) == 0


def test_nothing_of_it_is_imported_before_it_is_used() -> None:
    code = "import sys, isthmus.proxy; print('concurrent.futures' in sys.modules, 'asyncio' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
