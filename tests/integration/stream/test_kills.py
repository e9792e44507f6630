"""Producer, connection and consumer are killed in turn during a stream: who acknowledges loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from isthmus.broker.nats import NatsBroker
from isthmus.broker.redis import RedisBroker
from isthmus.broker.sqlite import SQLiteBroker
from isthmus.connectors.file import FileConnector
from isthmus.store import Store
from isthmus.stream import Channel, StreamConsumer
from isthmus.stream.log import LogChannel
from isthmus.stream.redis import RedisPubSubChannel, RedisQueueChannel
from isthmus.testing.peer import Peer
from isthmus.testing.servers import NatsServer, RedisServer
from isthmus.testing.stream_contract import consume_all, send_some


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(None, FileConnector(str(tmp_path / "objects"))) as store:
        yield store


def cut(server: RedisServer) -> None:

    with redis.Redis("127.0.0.1", server.port) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_kill_filter(_type="pubsub", skipme=True)


def noted(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def kill_in_turn(
    channel: Channel, group: str | None, store: Store, seen: Path, count: int, cut: object = None
) -> list[int]:
    """Return the numbers that no consumer has used."""
    half = count // 2
    sent = list(range(count))
    with Peer() as first, Peer() as second, Peer() as victim, Peer() as heir:
        victim.start(consume_all, channel, group, str(seen), count // 4)
        first.start(send_some, channel, store, sent, True, half)
        with pytest.raises(EOFError):
            first.result(100)
        second.start(send_some, channel, store, sent[half:], True)
        if callable(cut):
            cut()
        second.result(100)
        with pytest.raises(EOFError):
            victim.result(100)
        # Not before: of two at once, the victim might never get as many as it is to die after.
        heir.start(consume_all, channel, group, str(seen.with_suffix(".heir")))
        heir.result(100)
    used = noted(seen) + noted(seen.with_suffix(".heir"))
    return sorted(set(sent) - set(used))


COUNTS = [400, pytest.param(10_000, marks=pytest.mark.large)]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["sqlite", "redis", "nats"])
def test_logs_lose_nothing(kind: str, count: int, store: Store, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    if kind == "sqlite":
        channel = LogChannel(SQLiteBroker(tmp_path / "logs.db"), ack_wait=1.0, prefetch=8)
        assert kill_in_turn(channel, "g", store, seen, count) == []
    elif kind == "redis":
        with RedisServer() as server:
            broker = RedisBroker("127.0.0.1", server.port)
            channel = LogChannel(broker, ack_wait=1.0, prefetch=8)
            lost = kill_in_turn(channel, "g", store, seen, count, lambda: cut(server))
            assert lost == []
    else:
        with NatsServer() as nats:
            channel = LogChannel(NatsBroker(nats.url), ack_wait=1.0, prefetch=8)

            def restart() -> None:
                nats.kill()
                nats.start()

            assert kill_in_turn(channel, "g", store, seen, count, restart) == []
    assert list(store.connector.list()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", COUNTS)
def test_a_redis_queue_loses_what_its_consumer_had_taken(
    count: int, store: Store, tmp_path: Path
) -> None:
    with RedisServer() as server:
        channel = RedisQueueChannel("127.0.0.1", server.port, prefetch=8)
        lost = kill_in_turn(channel, None, store, tmp_path / "seen", count)
        assert 1 <= len(lost) <= 8


@pytest.mark.parametrize("count", COUNTS)
def test_a_subscriber_counts_what_publish_subscribe_loses(
    count: int, store: Store, tmp_path: Path
) -> None:
    with RedisServer() as server:
        channel = RedisPubSubChannel("127.0.0.1", server.port)
        with (
            StreamConsumer(channel.subscriber("t"), timeout=60) as consumer,
            Peer() as producer,
        ):
            producer.start(send_some, channel, store, list(range(count)), True)
            found = []
            for number, _ in consumer.iter_objects():
                found.append(number)
                if len(found) == count // 4:
                    with redis.Redis("127.0.0.1", server.port) as client:
                        client.client_kill_filter(_type="pubsub", skipme=True)
            producer.result()
        assert found == sorted(found)
        assert consumer.missed == count - len(found)
