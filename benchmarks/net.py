"""Connections against asyncio's streams and plain sockets, between two processes (TARGETS 4 and 5)."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness import Case, Target, Value, at_least, at_most
from benchmarks.run import main
from isthmus.testing.certificates import Authority

TITLE = "Connections between two processes on one machine (TARGETS 4 and 5)"

KINDS = ("unix", "tcp", "tls", "ws")

COMMON = """
import asyncio, atexit, socket, ssl, time
from statistics import median
from isthmus.net import TLS, Limits, connect, fingerprint
from benchmarks.net_peer import LARGE, SMALL
loop = asyncio.new_event_loop()
atexit.register(loop.close)
tls = TLS(fingerprints=(fingerprint({folder!r} + "/certificate.pem"),))
small, large = bytes(SMALL), bytes(range(256)) * (LARGE // 256)

async def trips(n, trip):
    took = []
    for _ in range(n):
        start = time.perf_counter()
        await trip()
        took.append(time.perf_counter() - start)
    return took
def round_trip():
    return median(loop.run_until_complete(trips(1000, trip))) * 1e6
def bulk():
    return LARGE / median(loop.run_until_complete(trips(3, send_large))) / 1e9
def pipelined(n=50_000):
    async def both():
        reading = loop.create_task(read(n))
        for i in range(n // 250):
            write(250)
            await drain()
            await asyncio.sleep(0)
        await reading
    start = time.perf_counter()
    loop.run_until_complete(both())
    return n / (time.perf_counter() - start)
"""
OURS = (
    COMMON
    + """
how = tls if {ours!r}.startswith("tls") else None
quiet = Limits(beat_seconds=0)  # between samples the loop stands still
c = loop.run_until_complete(connect({ours!r}, tls=how, limits=quiet))
atexit.register(c.abort)
async def trip():
    c.send([small])
    await c.receive()
async def send_large():
    c.send([small, large], 1)
    await c.receive()
def write(n):
    for _ in range(n):
        c.send([small])
async def read(n):
    for _ in range(n):
        await c.receive()
drain = c.drain
"""
)
STREAMS = (
    COMMON
    + """
async def opened():
    if {kind!r} == "unix":
        return await asyncio.open_unix_connection({folder!r} + "/streams")
    context = tls.client_context() if {kind!r} == "tls" else None
    return await asyncio.open_connection("127.0.0.1", {streams}, ssl=context)
r, w = loop.run_until_complete(opened())
head = SMALL.to_bytes(4, "little")
async def receive():
    await r.readexactly(int.from_bytes(await r.readexactly(4), "little"))
async def trip():
    w.write(head + small)
    await receive()
async def send_large():
    w.write(LARGE.to_bytes(4, "little"))
    w.write(large)
    await w.drain()
    await r.readexactly(1)
def write(n):
    for _ in range(n):
        w.write(head + small)
async def read(n):
    for _ in range(n):
        await receive()
drain = w.drain
"""
)
PLAIN = (
    COMMON
    + """
s = socket.create_connection(("127.0.0.1", {plain}))
if {kind!r} == "tls":
    s = tls.client_context().wrap_socket(s)
def plain():
    took = []
    for _ in range(3):
        start = time.perf_counter()
        s.sendall(large)
        s.recv(1)
        took.append(time.perf_counter() - start)
    return LARGE / median(took) / 1e9
"""
)


@contextlib.contextmanager
def peer() -> Iterator[dict[str, Any]]:
    """Run the other process; give its addresses and its folder."""
    folder = tempfile.mkdtemp(prefix="isthmus-net-")
    try:
        Path(Authority(folder).alone("127.0.0.1")).rename(f"{folder}/certificate.pem")
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.net_peer", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            yield {**json.loads(process.stdout.readline()), "folder": folder}
            process.communicate()
    finally:
        shutil.rmtree(folder)


def cases(quick: bool) -> Iterable[Case]:
    """Yield round trips, rates of small frames, and throughput of large ones, for every kind of address."""
    with peer() as found:
        for kind in KINDS:
            yield from _of(kind, found)


def _of(kind: str, found: dict[str, Any]) -> Iterable[Case]:
    names = {
        "kind": kind,
        "folder": found["folder"],
        "ours": found[f"ours {kind}"],
        "streams": found.get(f"streams {kind}"),
        "plain": found.get(f"plain {kind}"),
    }
    ours = OURS.format(**names)
    for name, call, unit, targets in (
        ("round trip, 100 B", "round_trip()", "µs", [at_most(80)]),
        ("pipelined, 100 B there and back", "pipelined()", "/s", [at_least(100_000)]),
        ("100 MB", "bulk()", "GB/s", []),
    ):
        against = {}
        aims: list[Target] = targets if kind == "unix" else []
        if kind != "ws":
            against["streams"] = Value(call, STREAMS.format(**names))
        if unit == "GB/s" and names["plain"]:
            against["plain"] = Value("plain()", PLAIN.format(**names))
            aims = [at_least(0.6, of="plain")] if kind == "tls" else []
        yield Case(f"{kind}: {name}", Value(call, ours), against, aims, unit=unit)


if __name__ == "__main__":
    raise SystemExit(main(["net"]))
