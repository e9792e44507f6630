"""The shipped suite against the connectors that come with isthmus."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.encrypted import EncryptedConnector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.memory import MemoryConnector
from isthmus.connectors.multi import MultiConnector, Policy
from isthmus.connectors.redis import RedisConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.connectors.zmq import ZmqConnector
from isthmus.testing.connector_contract import ConnectorContract
from isthmus.testing.servers import RedisServer


class Contract(ConnectorContract):
    @pytest.mark.large
    def test_a_gigabyte_comes_back_whole(self, connector: Any) -> None:
        self.check_large_object(connector, 1 << 30)


class TestMemory(Contract):
    crosses_processes = False

    @pytest.fixture
    def connector(self) -> Iterator[MemoryConnector]:
        with MemoryConnector(uuid.uuid4().hex) as connector:
            yield connector


class TestFile(Contract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> Iterator[FileConnector]:
        with FileConnector(tmp_path / "objects") as connector:
            yield connector


class TestSharedMemory(Contract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> Iterator[SharedMemoryConnector]:
        name = f"test-{uuid.uuid4().hex}"
        with SharedMemoryConnector(name, spill_dir=tmp_path) as connector:
            yield connector
            connector.clear()


class TestSharedMemoryThatIsFull(Contract):
    """Every object spills."""

    @pytest.fixture
    def connector(self, tmp_path: Path) -> Iterator[SharedMemoryConnector]:
        name = f"test-{uuid.uuid4().hex}"
        with SharedMemoryConnector(name, max_bytes=0, spill_dir=tmp_path) as connector:
            yield connector
            connector.clear()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class TestRedis(Contract):
    holds_leases = False

    @pytest.fixture
    def connector(self, redis_server: RedisServer) -> Iterator[RedisConnector]:
        prefix = f"test-{uuid.uuid4().hex}"
        with RedisConnector("127.0.0.1", redis_server.port, prefix=prefix) as connector:
            yield connector


class TestMultiOfMemoryAndFiles(Contract):
    """Small objects stay in memory, large ones go to disk."""

    crosses_processes = False

    @pytest.fixture
    def connector(self, tmp_path: Path) -> Iterator[MultiConnector]:
        members = {
            "memory": (MemoryConnector(uuid.uuid4().hex), Policy(max_bytes=100_000)),
            "disk": (FileConnector(tmp_path / "objects"), Policy(priority=-1)),
        }
        with MultiConnector(members) as connector:
            yield connector


class TestMultiOfSharedMemoryAndFiles(Contract):
    @pytest.fixture
    def connector(self, tmp_path: Path) -> Iterator[MultiConnector]:
        shared = SharedMemoryConnector(f"test-{uuid.uuid4().hex}", spill_dir=tmp_path)
        members = {
            "disk": (FileConnector(tmp_path / "objects"), Policy(min_bytes=1_000_000)),
            "shared": (shared, Policy(max_bytes=999_999)),
        }
        with MultiConnector(members) as connector:
            yield connector
            connector.clear()


class TestRedisInSmallChunks(Contract):
    """Nearly every object has many chunks."""

    holds_leases = False

    @pytest.fixture
    def connector(self, redis_server: RedisServer) -> Iterator[RedisConnector]:
        with RedisConnector(
            prefix=f"test-{uuid.uuid4().hex}",
            unix_socket=redis_server.unix_socket,
            chunk_bytes=5_000,
        ) as connector:
            yield connector


@pytest.fixture(scope="session")
def zmq_user(zmq_collector: None) -> Iterator[ZmqConnector]:
    """A user for whose sake the server stays from test to test."""
    with ZmqConnector("contract", "127.0.0.1", max_bytes=4 << 30) as connector:
        connector.put(b"")
        yield connector


class TestZmq(Contract):
    holds_leases = False

    @pytest.fixture
    def connector(self, zmq_user: ZmqConnector) -> Iterator[ZmqConnector]:
        zmq_user.clear()
        with ZmqConnector.from_config(zmq_user.config()) as connector:
            yield connector


class TestZmqInSmallChunks(Contract):
    """Nearly every object has many chunks."""

    holds_leases = False
    large_bytes = 10_000_000

    @pytest.fixture
    def connector(self, zmq_user: ZmqConnector) -> Iterator[ZmqConnector]:
        zmq_user.clear()
        config = {**zmq_user.config(), "chunk_bytes": 40_000}
        with ZmqConnector.from_config(config) as connector:
            yield connector


class Encrypted(Contract):
    @pytest.fixture(autouse=True)
    def secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ISTHMUS_TEST_KEY", "5a" * 32)


class TestEncryptedMemory(Encrypted):
    crosses_processes = False

    @pytest.fixture
    def connector(self, secret: None) -> Iterator[EncryptedConnector]:
        inner = MemoryConnector(uuid.uuid4().hex)
        with EncryptedConnector(inner, ["env:ISTHMUS_TEST_KEY"]) as connector:
            yield connector


class TestEncryptedFile(Encrypted):
    @pytest.fixture
    def connector(self, secret: None, tmp_path: Path) -> Iterator[EncryptedConnector]:
        inner = FileConnector(tmp_path / "objects")
        with EncryptedConnector(inner, ["env:ISTHMUS_TEST_KEY"]) as connector:
            yield connector


class TestEncryptedSharedMemory(Encrypted):
    @pytest.fixture
    def connector(self, secret: None, tmp_path: Path) -> Iterator[EncryptedConnector]:
        inner = SharedMemoryConnector(f"test-{uuid.uuid4().hex}", spill_dir=tmp_path)
        with EncryptedConnector(inner, ["env:ISTHMUS_TEST_KEY"]) as connector:
            yield connector
            connector.clear()
