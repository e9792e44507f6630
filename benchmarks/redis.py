"""Redis against ProxyStore over the same server, and against the client library (TARGETS 3)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from benchmarks.harness import Case, Code, Target, Value, at_least, at_most
from benchmarks.run import main
from benchmarks.store import PEAKS
from isthmus.testing.servers import RedisServer

TITLE = "Redis on one machine (TARGETS 3)"

SIZES = {"1 kB": 1_000, "100 kB": 100_000, "10 MB": 10_000_000, "100 MB": 100_000_000}

# Both sides, and the client library by itself, use one server, over TCP as another host would.
ARRAY = """
import numpy as np
x = np.random.default_rng(0).random({size} // 8)
"""
OURS = """
import atexit, os
from isthmus.store import Store
from isthmus.connectors.redis import RedisConnector
c = RedisConnector("127.0.0.1", {port}, prefix="benchmark-" + os.urandom(4).hex())
s = Store(None, c, cache_size=0)
atexit.register(lambda: s.closed or s.clear())
"""
PROXYSTORE = """
from proxystore.store import Store
from proxystore.connectors.redis import RedisConnector
s = Store("benchmark", RedisConnector("127.0.0.1", {port}), cache_size=0, register=False)
"""
CLIENT = """
import redis
r = redis.Redis("127.0.0.1", {port})
b = memoryview(x).cast("B")
"""
WAIT = """
import threading, time
def wait():
    key = c.reserve()
    done = []
    def consume():
        c.wait(key, 30)
        done.append(time.perf_counter())
    thread = threading.Thread(target=consume)
    thread.start()
    time.sleep(0.05)
    start = time.perf_counter()
    c.put_at(key, b"x" * 1000)
    thread.join()
    c.evict(key)
    return (done[0] - start) * 1e3
"""


def cases(quick: bool) -> Iterable[Case]:
    """Yield rates, the client's own, batches, peaks of memory, and how soon a waiter wakes."""
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        print("nothing measured: there is no redis-server on this machine")
        return
    with RedisServer() as server:
        for label, size in SIZES.items():
            if not quick or size < 100_000_000:
                yield _round_trip(label, size, server.port)
        yield from _against_the_client(server.port)
        yield _batch(server.port)
        yield from _peaks("10 MB" if quick else "100 MB", server.port)
        yield Case(
            "wait: from put_at to awake",
            Value("wait()", OURS.format(port=server.port) + WAIT),
            targets=[at_most(5)],
            unit="ms",
            budget=5,
        )


def _round_trip(label: str, size: int, port: int) -> Case:
    array, put_get = ARRAY.format(size=size), "k = s.put(x); y = s.get(k)"
    after = "del y; s.evict(k)"
    theirs = Code(put_get, PROXYSTORE.format(port=port) + array, "", after, "ProxyStore")
    targets: list[Target] = [at_least(4, of="ProxyStore")] if size >= 100_000 else []
    return Case(
        f"store: put + get, {label}",
        Code(put_get, OURS.format(port=port) + array, "", after),
        {"ProxyStore": theirs},
        targets,
        unit="MB/s" if size < 100_000 else "GB/s",
        amount=size,
    )


def _against_the_client(port: int) -> Iterable[Case]:
    for label in ("1 kB", "10 MB"):
        size = SIZES[label]
        array = ARRAY.format(size=size)
        ours, client = OURS.format(port=port) + array, array + CLIENT.format(port=port)
        targets = [at_least(0.95, of="client")] if size >= 10_000_000 else []
        unit = "GB/s" if size >= 10_000_000 else "MB/s"
        yield Case(
            f"connector: put, {label}",
            Code("k = c.put(x)", ours, after="c.evict(k)"),
            {"client": Code("r.set('k', b)", client, after="r.delete('k')")},
            targets,
            unit=unit,
            amount=size,
        )
        yield Case(
            f"connector: get, {label}",
            Code("c.get(k)", ours + "k = c.put(x)\n"),
            {"client": Code("r.get('k2')", client + "r.set('k2', b)\n")},
            targets,
            unit=unit,
            amount=size,
        )


def _batch(port: int) -> Case:
    many = "xs = [bytes(1000) for _ in range(100)]\n"
    stmt = "ks = s.put_batch(xs); s.get_batch(ks)"
    return Case(
        "store: batches of 100 × 1 kB, put + get",
        Code(stmt, OURS.format(port=port) + many, after="[s.evict(k) for k in ks]"),
        {
            "ProxyStore": Code(
                stmt.replace("s.get_batch(ks)", "[s.get(k) for k in ks]"),
                PROXYSTORE.format(port=port) + many,
                "",
                "[s.evict(k) for k in ks]",
                "ProxyStore",
            )
        },
        unit="ms",
    )


def _peaks(label: str, port: int) -> Iterable[Case]:
    array = ARRAY.format(size=SIZES[label])
    for verb, limit in (("put", 0.1), ("get", 1.0)):
        yield Case(
            f"store: peak memory of {verb}, {label}",
            Value(f"{verb}_peak()", OURS.format(port=port) + array + PEAKS),
            {
                "ProxyStore": Value(
                    f"{verb}_peak()", PROXYSTORE.format(port=port) + array + PEAKS, "ProxyStore"
                )
            },
            [at_most(limit)],
            unit="× object",
            rounds=5,
        )


if __name__ == "__main__":
    raise SystemExit(main(["redis"]))
