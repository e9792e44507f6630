"""The bridge: a loop of its own, waited for from any thread but that one."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from isthmus.errors import LocalProtocolError, WaitTimeoutError
from isthmus.net.bridge import Bridge


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge()
    yield bridge
    bridge.stop(0)


async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def test_it_runs_coroutines_for_many_threads(bridge: Bridge) -> None:
    assert bridge.run(double(21)) == 42
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: bridge.run(double(i)), range(200))) == [*range(0, 400, 2)]
    names = [t.name for t in threading.enumerate() if "isthmus-bridge" in t.name]
    assert names == ["isthmus-bridge"]


def test_it_starts_when_needed_and_again_after_a_stop(bridge: Bridge) -> None:
    assert bridge._thread is None
    bridge.stop()
    for _ in range(3):
        assert bridge.run(double(1)) == 2
        bridge.stop()
        assert not any("isthmus-bridge" in t.name for t in threading.enumerate())


def test_exceptions_come_with_their_whole_traceback(bridge: Bridge) -> None:
    async def deep() -> None:
        raise ZeroDivisionError("deep down")

    async def shallow() -> None:
        await deep()

    with pytest.raises(ZeroDivisionError, match="deep down") as found:
        bridge.run(shallow())
    names = [frame.name for frame in traceback.extract_tb(found.value.__traceback__)]
    assert names[-2:] == ["shallow", "deep"]
    assert names[0] == "test_exceptions_come_with_their_whole_traceback"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, pytest.skip.Exception])
def test_an_exit_is_the_callers_and_ends_nothing_for_others(
    bridge: Bridge, error: type[BaseException]
) -> None:
    async def leave() -> None:
        raise error("leaving")

    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise error("leaving")

    with pytest.raises(error, match="leaving"):
        bridge.run(leave())
    items = bridge.iterate(numbers())
    assert next(items) == 1
    with pytest.raises(error, match="leaving"):
        next(items)
    assert bridge.run(double(2)) == 4


def test_waiting_on_its_own_thread_raises_at_once(bridge: Bridge) -> None:
    async def wait() -> None:
        bridge.run(double(1))

    async def iterate() -> None:
        list(bridge.iterate(_numbers(3)))

    async def stop() -> None:
        bridge.stop()

    for work in (wait, iterate, stop):
        with pytest.raises(LocalProtocolError, match="own thread"):
            bridge.run(work())


def test_it_can_be_fed_from_its_own_thread(bridge: Bridge) -> None:
    async def start() -> int:
        return await asyncio.wrap_future(bridge.start(double(4)))

    assert bridge.run(start()) == 8


class Stuck:
    """Work that goes on until it is cancelled."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = threading.Event()

    async def work(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_a_timeout_cancels(bridge: Bridge) -> None:
    stuck = Stuck()
    with pytest.raises(WaitTimeoutError, match=r"Stuck\.work did not come within 0.01 s"):
        bridge.run(stuck.work(), 0.01)
    assert not stuck.began.is_set() or stuck.cancelled.wait(30)


def test_a_timeout_of_the_work_itself_is_its_own(bridge: Bridge) -> None:
    async def work() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        bridge.run(work(), 30)


def test_a_service_that_nobody_refers_to_lives_on(bridge: Bridge) -> None:
    stuck = Stuck()
    bridge.start(stuck.work(), daemon=True)
    assert stuck.began.wait(30)
    gc.collect()
    assert not stuck.cancelled.is_set()
    bridge.stop(0)
    assert stuck.cancelled.is_set()  # at the end, and by cancellation, not as garbage


def test_cancelling_the_future_cancels_the_work(bridge: Bridge) -> None:
    stuck = Stuck()
    future = bridge.start(stuck.work())
    assert stuck.began.wait(30)
    assert future.cancel()
    assert stuck.cancelled.wait(30)
    with pytest.raises(CancelledError):
        future.result()


def test_an_interrupt_while_waiting_cancels_the_work(bridge: Bridge) -> None:
    stuck = Stuck()

    def interrupt() -> None:
        stuck.began.wait(30)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        bridge.run(stuck.work(), 60)
    assert stuck.cancelled.wait(30)
    thread.join()


async def _numbers(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@pytest.mark.parametrize("prefetch", [1, 2, 7, 1000])
def test_what_is_asynchronous_is_iterated(bridge: Bridge, prefetch: int) -> None:
    assert list(bridge.iterate(_numbers(100), prefetch)) == [*range(100)]
    assert list(bridge.iterate(_numbers(0), prefetch)) == []


def test_no_more_than_asked_for_is_fetched_ahead(bridge: Bridge) -> None:
    fetched = []

    async def numbers() -> AsyncIterator[int]:
        for i in range(1000):
            fetched.append(i)
            yield i

    items = bridge.iterate(numbers(), 10)
    assert next(items) == 0
    for _ in range(20):
        bridge.run(double(0))
    assert len(fetched) <= 12
    items.close()


def test_leaving_an_iteration_ends_the_asynchronous_one(bridge: Bridge) -> None:
    ended = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for i in range(1000):
                yield i
        finally:
            ended.set()

    for i in bridge.iterate(numbers()):
        if i == 3:
            break
    assert ended.wait(30)


def test_an_error_comes_after_the_items_before_it(bridge: Bridge) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise ZeroDivisionError

    items = bridge.iterate(numbers())
    assert next(items) == 1
    with pytest.raises(ZeroDivisionError):
        next(items)
    with pytest.raises(LocalProtocolError, match="0 items"):
        next(bridge.iterate(numbers(), 0))


def test_a_stop_names_what_it_cancels_and_no_future_stays_undone(
    bridge: Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    stuck, serving = Stuck(), Stuck()
    future, daemon = bridge.start(stuck.work()), bridge.start(serving.work(), daemon=True)
    assert stuck.began.wait(30)
    with caplog.at_level(logging.WARNING, "isthmus.net"):
        bridge.stop(0)
    assert [record.getMessage() for record in caplog.records] == [
        "still underway at the end, and cancelled: Stuck.work"
    ]
    assert stuck.cancelled.is_set()
    for one in (future, daemon):
        with pytest.raises(CancelledError):
            one.result(30)


def test_a_stop_lets_work_end(bridge: Bridge) -> None:
    go = threading.Event()

    async def work() -> str:
        while not go.is_set():
            await asyncio.sleep(0)
        return "done"

    future = bridge.start(work())
    go.set()
    bridge.stop()
    assert future.result(0) == "done"


def test_a_forked_child_has_a_bridge_of_its_own(bridge: Bridge) -> None:
    assert bridge.run(double(1)) == 2
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if bridge.run(double(2)) == 4 else 2
            bridge.stop(0)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert bridge.run(double(3)) == 6


def _exits(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_at_exit_work_underway_ends() -> None:
    done = _exits("""
        import asyncio
        from isthmus.net.bridge import bridge
        async def work():
            await asyncio.sleep(0.05)
            print("ended")
        bridge.start(work())
        """)
    assert (done.stdout, done.stderr, done.returncode) == ("ended\n", "", 0)


def test_at_exit_what_does_not_end_is_named() -> None:
    done = _exits("""
        import asyncio
        from isthmus.net import bridge as module
        module.LINGER = 0.05
        async def forever():
            await asyncio.Event().wait()
        async def serves():
            await asyncio.Event().wait()
        module.bridge.start(forever())
        module.bridge.start(serves(), daemon=True)
        """)
    assert done.stderr == "still underway at the end, and cancelled: forever\n"
    assert (done.stdout, done.returncode) == ("", 0)


def test_at_exit_what_does_not_let_itself_be_cancelled_is_left_behind() -> None:
    done = _exits("""
        import asyncio
        from isthmus.net import bridge as module
        module.LINGER = 0.05
        async def stubborn():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
        async def begun():
            pass
        for daemon in (True, False):
            module.bridge.start(stubborn(), daemon=daemon)
        module.bridge.run(begun())
        """)
    assert done.stderr.splitlines() == [
        "still underway at the end, and cancelled: stubborn",
        "isthmus-bridge: something there does not let itself be cancelled; it is left behind",
    ]
    assert (done.stdout, done.returncode) == ("", 0)
