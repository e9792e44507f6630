"""Patterns on proxies: how soon a future's consumer wakes, and pipelined tasks (TARGETS 3, figure 4.11)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Value, at_most
from benchmarks.redis import OURS as OURS_REDIS
from benchmarks.redis import PROXYSTORE as PROXYSTORE_REDIS
from benchmarks.run import main
from benchmarks.store import OURS, PROXYSTORE
from isthmus.testing.servers import RedisServer

TITLE = "Patterns on one machine: futures (TARGETS 3)"

# A process of its own sets each future to the time at which it does; the clock is the machine's.
PRODUCER = """
import multiprocessing, time
fork = multiprocessing.get_context("fork")
mine, its = fork.Pipe()
def produce():
    while True:
        for future in its.recv():
            time.sleep({delay})
            future.set_result(time.monotonic())
producer = fork.Process(target=produce, daemon=True)
producer.start()
"""
WAKE = """
def wake():
    future = s.future()
    mine.send([future])
    set_at = future.result()
    return (time.monotonic() - set_at) * 1e3
"""
AWAIT = """
import asyncio
def awaken(n):
    async def waited(future):
        set_at = await future
        return (time.monotonic() - set_at) * 1e3
    async def all_of_them():
        futures = [s.future() for _ in range(n)]
        waiting = [asyncio.ensure_future(waited(future)) for future in futures]
        await asyncio.sleep(0)
        mine.send(futures)
        late = sorted(await asyncio.gather(*waiting))
        for future in futures:
            future.evict()
        return late[n // 2]
    return asyncio.run(all_of_them())
"""
PIPELINE = """
from concurrent.futures import ProcessPoolExecutor
from examples.pipelining import pipelined, width_of
from isthmus.store import Store
def above_ideal(f, n=8, s=0.5, size=10_000_000):
    width = width_of(f)
    with Store() as store, ProcessPoolExecutor(width) as pool:
        list(pool.map(time.sleep, [0.05] * width))
        took = pipelined(pool, store, n, s, f, size, width)
    return took / (f * s + n * (1 - f) * s)
"""


def waking(port: int) -> Iterable[Case]:
    """Yield how late a consumer is, in ms, when another process sets what it waits for."""
    sides = {
        "shared memory": (OURS + "s = shared()\n", PROXYSTORE + "s = shared()\n"),
        "files": (OURS + "s = files()\n", PROXYSTORE + "s = files()\n"),
        "Redis": (OURS_REDIS.format(port=port), PROXYSTORE_REDIS.format(port=port)),
    }
    for label, (ours, theirs) in sides.items():
        setup = PRODUCER.format(delay=0.2) + WAKE
        yield Case(
            f"{label}: wake-up of a future's consumer",
            Value("wake()", ours + setup),
            {"ProxyStore": Value("wake()", theirs + setup, "ProxyStore")},
            [at_most(5.0)],
            unit="ms",
        )
    for label, (ours, _) in sides.items():
        yield Case(
            f"{label}: median wake-up of 1,000 awaited, set every 2 ms",
            Value("awaken(1000)", ours + PRODUCER.format(delay=0.002) + AWAIT),
            unit="ms",
            rounds=5,
            budget=30.0,
        )


def cases(quick: bool) -> Iterable[Case]:
    """Yield wake-ups, and how far pipelined tasks are from the ideal."""
    with RedisServer() as server:
        yield from waking(server.port)
    for fraction in (0.2, 0.5, 0.8):
        yield Case(
            f"8 pipelined tasks of 0.5 s, 10 MB, f = {fraction}: makespan",
            Value(f"above_ideal({fraction})", "import time" + PIPELINE),
            targets=[at_most(1.1)],
            unit="× ideal",
            rounds=5,
            budget=30.0,
        )


if __name__ == "__main__":
    raise SystemExit(main(["patterns"]))
