"""The shipped suite against the channels that come with isthmus."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.broker.memory import MemoryBroker
from isthmus.broker.nats import NatsBroker
from isthmus.broker.redis import RedisBroker
from isthmus.broker.sqlite import SQLiteBroker
from isthmus.net.bridge import bridge
from isthmus.store import Store
from isthmus.stream import Channel
from isthmus.stream.log import LogChannel
from isthmus.stream.memory import MemoryChannel
from isthmus.stream.redis import RedisPubSubChannel, RedisQueueChannel
from isthmus.testing.servers import NatsServer, RedisServer
from isthmus.testing.stream_contract import StreamContract


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(autouse=True)
def stop_bridge(leak_check: None) -> Iterator[None]:
    yield
    bridge.stop()


def cut_redis(self: StreamContract, channel: Channel) -> None:
    import redis

    config = channel.config()
    with redis.Redis("127.0.0.1", config.get("options", config)["port"]) as client:
        client.client_kill_filter(_type="normal", skipme=True)
        client.client_kill_filter(_type="pubsub", skipme=True)


class TestMemory(StreamContract):
    crosses_processes = False

    @pytest.fixture
    def channel(self) -> MemoryChannel:
        return MemoryChannel(uuid.uuid4().hex)


class TestRedisQueue(StreamContract):
    acknowledges = False

    @pytest.fixture
    def channel(self, redis_server: RedisServer) -> RedisQueueChannel:
        return RedisQueueChannel("127.0.0.1", redis_server.port, prefix=uuid.uuid4().hex)

    cut = cut_redis


class TestRedisPubSub(StreamContract):
    acknowledges = False
    keeps = False
    shares = False

    @pytest.fixture
    def channel(self, redis_server: RedisServer) -> RedisPubSubChannel:
        return RedisPubSubChannel("127.0.0.1", redis_server.port, prefix=uuid.uuid4().hex)

    cut = cut_redis

    def await_subscribers(self, channel: Channel, count: int) -> None:
        import redis

        config = channel.config()
        name = f"{config['prefix']}:t"
        deadline = time.monotonic() + 30
        with redis.Redis("127.0.0.1", config["port"]) as client:
            while dict(client.pubsub_numsub(name)).get(name.encode(), 0) < count:
                assert time.monotonic() < deadline
                time.sleep(0.01)


class LogContract(StreamContract):
    group = "g"


class TestMemoryLog(LogContract):
    crosses_processes = False

    @pytest.fixture
    def channel(self) -> LogChannel:
        return LogChannel(MemoryBroker(uuid.uuid4().hex))


class TestSQLite(LogContract):
    @pytest.fixture
    def channel(self, tmp_path: Path) -> LogChannel:
        return LogChannel(SQLiteBroker(tmp_path / "logs.db"), ack_wait=1.0)


class TestRedisStreams(LogContract):
    @pytest.fixture
    def channel(self, redis_server: RedisServer) -> LogChannel:
        broker = RedisBroker("127.0.0.1", redis_server.port, prefix=uuid.uuid4().hex)
        return LogChannel(broker, ack_wait=1.0)

    cut = cut_redis


class TestNats(LogContract):
    @pytest.fixture
    def channel(self, nats_server: NatsServer) -> LogChannel:
        return LogChannel(NatsBroker(nats_server.url, uuid.uuid4().hex), ack_wait=1.0)

    def test_cut_connections(self, channel: Channel, store: Store) -> None:
        with NatsServer() as self.server:
            channel = LogChannel(NatsBroker(self.server.url), ack_wait=1.0)
            self.cut_connections(channel, store, 90)

    def cut(self, channel: Channel) -> None:
        self.server.kill()
        self.server.start()


class TestReplay(StreamContract):
    """Without a group: each subscriber reads all, by itself."""

    acknowledges = False
    shares = False

    @pytest.fixture
    def channel(self, redis_server: RedisServer) -> LogChannel:
        broker = RedisBroker("127.0.0.1", redis_server.port, prefix=uuid.uuid4().hex)
        return LogChannel(broker)

    cut = cut_redis
