"""Stores of every kind that runs without a server, each in a space of its own that the test clears."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors import Connector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.memory import MemoryConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.store import Store

KINDS = ("memory", "shm", "file")


@pytest.fixture(params=KINDS)
def connector(request: pytest.FixtureRequest, tmp_path: Path) -> Connector[Any]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    if request.param == "memory":
        return MemoryConnector(name)
    if request.param == "shm":
        return SharedMemoryConnector(name, spill_dir=str(tmp_path / "spill"))
    return FileConnector(tmp_path / "objects")


@pytest.fixture
def make(connector: Connector[Any]) -> Iterator[Callable[..., Store]]:
    """Open stores over one connector; the last thing a test does is to clear it."""
    opened: list[Store] = []

    def open_store(name: str | None = None, **options: Any) -> Store:
        opened.append(Store(name, connector, **options))
        return opened[-1]

    yield open_store
    again = type(connector).from_config(connector.config())
    for store in opened:
        store.close()
    again.clear()
    again.close()


@pytest.fixture
def store(make: Callable[..., Store]) -> Store:
    return make()
