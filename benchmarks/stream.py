"""Streams between two processes against ProxyStore over the same Redis, and the store alone (TARGETS 6)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from benchmarks.harness import Case, Value, at_least
from benchmarks.run import main
from isthmus.testing.servers import RedisServer

TITLE = "Streams between two processes (TARGETS 6)"

# Each side has `produce`, the source of a script that sends `n` items of `size` bytes to topic `t`, and
# `consume(n, size)`, which yields objects; `rate` starts the one and times the other from its first item.
RATE = """
import subprocess, sys, time
def rate(n, size):
    child = None
    objects = consume(n, size)
    child = subprocess.Popen([sys.executable, "-c", produce], env={{**__import__("os").environ,
        "ITEMS": str(n), "SIZE": str(size)}})
    count, start = 0, 0.0
    for obj in objects:
        assert len(obj) == size
        if count == 0:
            start = time.perf_counter()
        count += 1
    seconds = time.perf_counter() - start
    assert child.wait() == 0 and count == n, (count, n)
    done()
    return (n - 1) / seconds
"""
HEAD = """
import os
n, size = int(os.environ.get("ITEMS", 0)), int(os.environ.get("SIZE", 0))
"""
OURS_BOTH = """
from isthmus.stream import StreamConsumer, StreamProducer
from isthmus.store import Store
from isthmus.connectors.shm import SharedMemoryConnector
{channel}
store = Store("benchmark", SharedMemoryConnector("benchmark-{port}"), cache_size=0)
"""
OURS_PRODUCER = """
with StreamProducer(channel.publisher(), store, {options}) as producer:
    for _ in range(n):
        producer.send("t", bytes(size))
"""
OURS_CONSUMER = """
def consume(n, size):
    channel.delete("t")
    opened.append(StreamConsumer(channel.subscriber("t"{group}), timeout=60))
    return opened[-1].iter_objects()
def done():
    opened.pop().close()
opened = []
import atexit
atexit.register(lambda: store.closed or store.clear())
"""
QUEUE = """
from isthmus.stream.redis import RedisQueueChannel
channel = RedisQueueChannel("127.0.0.1", {port})
"""
STREAMS = """
from isthmus.broker.redis import RedisBroker
from isthmus.stream.log import LogChannel
channel = LogChannel(RedisBroker("127.0.0.1", {port}))
"""
# Its documented way: a queue of Redis for the events, files in shared memory for the objects.
PROXYSTORE_BOTH = """
from proxystore.connectors.file import FileConnector
from proxystore.store import Store, get_or_create_store
from proxystore.stream import StreamConsumer, StreamProducer
from proxystore.stream.shims.redis import RedisQueuePublisher, RedisQueueSubscriber
folder = "/dev/shm/proxystore-benchmark-{port}"
store = Store("benchmark", FileConnector(folder), cache_size=0, register=True)
"""
PROXYSTORE_PRODUCER = """
producer = StreamProducer(RedisQueuePublisher("127.0.0.1", {port}), {{"t": store}})
for _ in range(n):
    producer.send("t", bytes(size), evict=True)
producer.close_topics("t")
producer.close()
"""
PROXYSTORE_CONSUMER = """
import shutil, atexit
def consume(n, size):
    opened.append(StreamConsumer(RedisQueueSubscriber("127.0.0.1", {port}, "t")))
    return opened[-1].iter_objects()
def done():
    opened.pop()
opened = []
atexit.register(shutil.rmtree, "/dev/shm/proxystore-benchmark-{port}", True)
"""
ROUND = """
import time
def round_trip(n, size):
    start = time.perf_counter()
    for _ in range(n):
        key = store.put(bytes(size))
        store.get(key)
        store.evict(key)
    return n / (time.perf_counter() - start)
"""


def cases(quick: bool) -> Iterable[Case]:
    """Yield rates of small items, stored and inline, and of large ones beside the store's own."""
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        print("nothing measured: there is no redis-server on this machine")
        return
    many = 3_000 if quick else 20_000
    with RedisServer() as server:
        port = server.port
        theirs = Value(f"rate({min(many, 5_000)}, 1_000)", _proxystore(port), "ProxyStore")
        for label, channel, group in (("queue", QUEUE, ""), ("Streams", STREAMS, ', group="g"')):
            yield Case(
                f"1 kB through a store, no batching, Redis {label}",
                Value(f"rate({many}, 1_000)", _ours(port, channel, group, "inline_bytes=0")),
                {"ProxyStore": theirs} if label == "queue" else {},
                [at_least(10_000)],
                unit="items/s",
                rounds=5,
            )
            yield Case(
                f"100 B inline, batches made by themselves, Redis {label}",
                Value(f"rate({5 * many}, 100)", _ours(port, channel, group, "batch_items=256")),
                {},
                [at_least(50_000)],
                unit="items/s",
                rounds=5,
            )
        bounded = "inline_bytes=0, max_in_flight_bytes=100_000_000"
        ours = _ours(port, QUEUE, "", bounded)
        yield Case(
            "10 MB through a store",
            Value("rate(60, 10_000_000)", ours),
            {
                "store's put + get": Value("round_trip(60, 10_000_000)", ours + ROUND),
                "ProxyStore": Value("rate(60, 10_000_000)", _proxystore(port), "ProxyStore"),
            },
            [at_least(0.9, of="store's put + get")],
            unit="items/s",
            rounds=5,
        )


def _ours(port: int, channel: str, group: str, options: str) -> str:
    both = OURS_BOTH.format(channel=channel.format(port=port), port=port)
    produce = HEAD + both + OURS_PRODUCER.format(options=options)
    return f"produce = {produce!r}\n" + both + OURS_CONSUMER.format(group=group) + RATE.format()


def _proxystore(port: int) -> str:
    both = PROXYSTORE_BOTH.format(port=port)
    produce = HEAD + both + PROXYSTORE_PRODUCER.format(port=port)
    consumer = PROXYSTORE_CONSUMER.format(port=port)
    return f"produce = {produce!r}\n" + both + consumer + RATE.format()


if __name__ == "__main__":
    raise SystemExit(main(["stream"]))
