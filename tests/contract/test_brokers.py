"""The shipped suite against the brokers that come with isthmus."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isthmus.broker.memory import MemoryBroker
from isthmus.broker.nats import NatsBroker
from isthmus.broker.redis import RedisBroker
from isthmus.broker.sqlite import SQLiteBroker
from isthmus.testing.broker_contract import BrokerContract
from isthmus.testing.servers import NatsServer, RedisServer


class TestMemory(BrokerContract):
    crosses_processes = False

    @pytest.fixture
    def connect(self) -> Callable[[], MemoryBroker]:
        name = uuid.uuid4().hex
        return lambda: MemoryBroker(name)


class TestSQLite(BrokerContract):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Callable[[], SQLiteBroker]:
        return lambda: SQLiteBroker(tmp_path / "new" / "logs.db")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class TestRedis(BrokerContract):
    @pytest.fixture
    def connect(self, redis_server: RedisServer) -> Callable[[], RedisBroker]:
        prefix = f"test-{uuid.uuid4().hex}"
        return lambda: RedisBroker("127.0.0.1", redis_server.port, prefix=prefix)


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


class TestNats(BrokerContract):
    @pytest.fixture
    def connect(self, nats_server: NatsServer) -> Callable[[], NatsBroker]:
        prefix = f"test-{uuid.uuid4().hex}"
        return lambda: NatsBroker(nats_server.url, prefix)
