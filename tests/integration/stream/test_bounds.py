"""Channels with bounds: who sends more waits until consumers are done with what is there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from isthmus.broker.memory import MemoryBroker
from isthmus.broker.nats import NatsBroker
from isthmus.broker.redis import RedisBroker
from isthmus.broker.sqlite import SQLiteBroker
from isthmus.errors import FullError
from isthmus.net.bridge import bridge
from isthmus.stream import Channel, StreamConsumer, StreamProducer
from isthmus.stream.log import LogChannel
from isthmus.stream.memory import MemoryChannel
from isthmus.stream.redis import RedisQueueChannel
from isthmus.testing.servers import NatsServer, RedisServer


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


BOUND = 10
KINDS = ["memory", "redis-queue", "memory-log", "sqlite", "redis", "nats"]


@pytest.fixture(params=KINDS)
def channel(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    nats_server: NatsServer,
) -> Channel:
    kind = request.param
    if kind == "memory":
        return MemoryChannel(str(tmp_path), max_bytes=BOUND * 100)
    if kind == "redis-queue":
        return RedisQueueChannel("127.0.0.1", redis_server.port, max_messages=BOUND, prefetch=1)
    if kind == "memory-log":
        broker = MemoryBroker(str(tmp_path))
    elif kind == "sqlite":
        broker = SQLiteBroker(tmp_path / "logs.db")
    elif kind == "redis":
        broker = RedisBroker("127.0.0.1", redis_server.port)
    else:
        broker = NatsBroker(nats_server.url)
    return LogChannel(broker, groups=["one", "two"], max_records=BOUND, ack_wait=5.0, prefetch=2)


def test_a_full_channel_makes_producers_wait(channel: Channel) -> None:
    groups = ["one", "two"] if isinstance(channel, LogChannel) else [None]
    sent = list(range(5 * BOUND))

    def produce() -> None:
        with StreamProducer(channel.publisher(), None) as producer:
            for n in sent:
                producer.send("t", n)
                producer.flush()

    with ThreadPoolExecutor(3) as pool:
        producing = pool.submit(produce)
        with pytest.raises(TimeoutError):
            producing.result(0.3)

        def use(group: str | None) -> list[int]:
            subscriber = channel.subscriber("t", group=group)
            with StreamConsumer(subscriber, timeout=30) as consumer:
                return list(consumer.iter_objects())

        assert list(pool.map(use, groups)) == [sent] * len(groups)
        producing.result(30)
    if isinstance(channel, LogChannel):

        async def kept() -> int:
            async with channel._broker() as broker:
                return (await (await broker.open("t")).stat()).records

        assert bridge.run(kept()) <= BOUND


def test_what_never_fits_is_refused(tmp_path: Path) -> None:
    channel = LogChannel(SQLiteBroker(tmp_path / "logs.db"), groups=["g"], max_bytes=1000)
    producer = StreamProducer(channel.publisher(), None)
    producer.send("t", bytes(2000))
    with pytest.raises(FullError, match="1000"):
        producer.flush()
    with pytest.raises(FullError):
        producer.close()


def test_only_what_comes_from_now_on(tmp_path: Path) -> None:
    channel = LogChannel(SQLiteBroker(tmp_path / "logs.db"))
    with StreamProducer(channel.publisher(), None) as producer:
        producer.send("t", "before")
        producer.flush()
        readers = [
            StreamConsumer(channel.subscriber("t", group=group, start=-1), timeout=30)
            for group in (None, "late")
        ]
        producer.send("t", "after")
    for reader in readers:
        with reader:
            assert list(reader.iter_objects()) == ["after"]
