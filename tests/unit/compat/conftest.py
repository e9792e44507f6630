"""Aliases for the length of a test."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

from isthmus import compat


@pytest.fixture
def alias() -> Iterator[None]:
    """ProxyStore's names, gone afterwards."""
    assert "proxystore" not in sys.modules
    compat.install("proxystore")
    yield
    compat.uninstall()
    gc.collect()  # stores that a test only dropped
