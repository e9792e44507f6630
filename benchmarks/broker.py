"""Logs: appends, reads and doorbells of each broker, against bare SQLite and the client libraries."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from benchmarks.harness import Case, Code, Value, at_least, at_most
from benchmarks.run import main
from isthmus.testing.servers import NatsServer, RedisServer

TITLE = "Logs on one machine (TARGETS 5: durable mailboxes)"

DATA = 100  # bytes of a record: an envelope with a short payload
OUTSTANDING = 64
PER_SENDER = 10

# Every side runs in an event loop of its own that `run` drives from outside; `item` is one record.
LOOP = f"""
import asyncio, atexit, os, shutil, tempfile
loop = asyncio.new_event_loop()
run = loop.run_until_complete
item = os.urandom({DATA})
folder = tempfile.mkdtemp(prefix="isthmus-benchmark-", dir=os.environ.get("ISTHMUS_BENCHMARK_DISK"))
atexit.register(shutil.rmtree, folder, ignore_errors=True)
"""
OURS = """
broker = {broker}
log = run(broker.open("a"))
atexit.register(lambda: run(broker.aclose()))
async def append():
    return (await log.append([item]))[0]
async def read(after):
    return await log.read(after)
last = 0
"""
MANY = f"""
async def many():
    async def send():
        for _ in range({PER_SENDER}):
            await append()
    await asyncio.gather(*(send() for _ in range({OUTSTANDING})))
"""
LATENCY = """
import statistics, time
taken = []
append_one = append
async def append():
    start = time.perf_counter()
    await append_one()
    taken.append(time.perf_counter() - start)
def median_latency():
    taken.clear()
    run(many())
    return statistics.median(taken) * 1e3
"""
FILL = """
async def fill():
    for _ in range(256):
        await append()
run(fill())
"""
# From the call, not from its return: a server may wake the waiter before it answers who appends.
BELL = """
import time
async def ring():
    last = (await log.stat()).last
    waiting = asyncio.ensure_future(log.wait(last, 30))
    await asyncio.sleep(0.01)
    start = time.perf_counter()
    appending = asyncio.ensure_future(log.append([item]))
    await waiting
    taken = time.perf_counter() - start
    await appending
    return taken
"""
# The record says when its append was called: processes of one host share the monotonic clock.
APPENDER = """
import asyncio, json, struct, sys, time
from {module} import {name}
async def main():
    async with {name}.from_config(json.loads(sys.argv[1])) as broker:
        log = await broker.open("a")
        for line in sys.stdin:
            await log.append([struct.pack("d", time.monotonic()).ljust({size})])
            print(flush=True)
asyncio.run(main())
"""
ACROSS = """
import json, struct, subprocess, sys, time
other = subprocess.Popen(
    [sys.executable, "-c", {appender!r}, json.dumps(broker.config())],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
def told():
    other.stdin.write(b"\\n")
    other.stdin.flush()
def left():
    other.stdin.close()
    other.wait()
atexit.register(left)
told()
other.stdout.readline()
async def ring_across():
    last = (await log.stat()).last
    waiting = asyncio.ensure_future(log.wait(last, 30))
    await asyncio.sleep(0.01)
    told()
    await waiting
    awake = time.monotonic()
    (record,) = await log.read(last)
    other.stdout.readline()
    return awake - struct.unpack("d", record.data[:8])[0]
run(ring_across())
"""
SQLITE = """
import sqlite3
db = sqlite3.connect(folder + "/bare.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE records (position INTEGER PRIMARY KEY, data BLOB)")
async def append():
    db.execute("INSERT INTO records (data) VALUES (?)", (item,))
async def many():
    for _ in range({many}):
        await append()
async def read():
    rows = db.execute("SELECT * FROM records WHERE position > 0 ORDER BY position LIMIT 256")
    return rows.fetchall()
"""
REDIS = """
import redis.asyncio
client = redis.asyncio.Redis(port={port})
async def append():
    await client.xadd("bare", {{"d": item}})
async def read():
    return await client.xrange("bare", count=256)
run(client.delete("bare"))
"""
NATS = """
import nats
client = run(nats.connect("{url}"))
js = client.jetstream()
run(js.add_stream(name="bare", subjects=["bare"]))
async def append():
    await js.publish("bare", item)
"""


def cases(quick: bool) -> Iterable[Case]:
    """Yield, for each broker that runs here, appends, latency, reads and how soon a waiter wakes."""
    bare = SQLITE.format(many=OUTSTANDING * PER_SENDER)
    path = "SQLiteBroker(folder + '/logs.db')"
    yield from _cases("memory", "memory", "MemoryBroker(folder)", "", "")
    yield from _cases("SQLite", "sqlite", path, "bare SQLite", bare)
    if shutil.which("redis-server") or shutil.which("valkey-server"):
        with RedisServer("appendonly yes", "appendfsync always") as server:
            made = f"RedisBroker('127.0.0.1', {server.port}, prefix=os.urandom(4).hex())"
            yield from _cases("Redis", "redis", made, "client", REDIS.format(port=server.port))
    if shutil.which("nats-server"):
        with NatsServer() as server:
            made = f"NatsBroker({server.url!r}, os.urandom(4).hex())"
            yield from _cases("NATS", "nats", made, "client", NATS.format(url=server.url))


def _cases(label: str, module: str, made: str, peer: str, theirs: str) -> Iterable[Case]:
    imported = f"from isthmus.broker.{module} import {made.partition('(')[0]}\n"
    ours = LOOP + imported + OURS.format(broker=made)
    theirs = LOOP + theirs

    def against(stmt: str, more: str = "") -> dict[str, Code]:
        # What a bare side brings itself (SQLite has nothing outstanding) is not replaced.
        own = "" if "async def many" in theirs and more == MANY else more
        return {peer: Code(stmt, theirs + own)} if peer else {}

    durable = label == "SQLite"
    many = OUTSTANDING * PER_SENDER
    yield Case(
        f"{label}: append, alone",
        Code("run(append())", ours),
        against("run(append())"),
        unit="/s",
    )
    yield Case(
        f"{label}: append, {OUTSTANDING} outstanding",
        Code("run(many())", ours + MANY),
        against("run(many())", MANY),
        [at_least(10_000)] if durable else [],
        unit="/s",
        amount=many,
    )
    yield Case(
        f"{label}: one append of {OUTSTANDING} outstanding, median",
        Value("median_latency()", ours + MANY + LATENCY),
        targets=[at_most(1)] if durable else [],
        unit="ms",
        budget=5,
    )
    fill = "run(log.append([item] * 256))\n"
    yield Case(
        f"{label}: read 256 records",
        Code("run(read(0))", ours + fill),
        against("run(read())", FILL) if label != "NATS" else {},
        unit="/s",
        amount=256,
    )
    yield Case(
        f"{label}: doorbell, from append's call to awake",
        Value("run(ring()) * 1e6", ours + BELL),
        unit="µs",
        budget=5,
    )
    if label != "memory":
        name = made.partition("(")[0]
        appender = APPENDER.format(module=f"isthmus.broker.{module}", name=name, size=DATA)
        yield Case(
            f"{label}: doorbell, from append's call in another process to awake",
            Value("run(ring_across()) * 1e6", ours + ACROSS.format(appender=appender)),
            unit="µs",
            budget=5,
        )


if __name__ == "__main__":
    raise SystemExit(main(["broker"]))
