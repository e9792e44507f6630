"""A server for all tests that only use one, and connectors over a prefix of a test's own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isthmus.connectors.redis import RedisConnector
from isthmus.testing.servers import RedisServer

Open = Callable[..., RedisConnector]


@pytest.fixture(scope="session")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def open_redis(server: RedisServer) -> Iterator[Open]:
    """Open connectors of one prefix on the shared server; emptied and closed afterwards."""
    prefix = f"test-{uuid.uuid4().hex}"
    opened: list[RedisConnector] = []

    def connect(**options: Any) -> RedisConnector:
        opened.append(RedisConnector("127.0.0.1", server.port, **{"prefix": prefix, **options}))
        return opened[-1]

    yield connect
    for connector in opened:
        connector.close()
        with RedisConnector.from_config(connector.config()) as last:
            last.clear()
