"""The shipped suite against the brokers that come with isthmus."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from isthmus.broker.memory import MemoryBroker
from isthmus.broker.sqlite import SQLiteBroker
from isthmus.testing.broker_contract import BrokerContract


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
