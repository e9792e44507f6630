"""Nothing of the bridge is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isthmus.net.bridge import bridge


@pytest.fixture(autouse=True)
def stop_bridge(leak_check: None) -> Iterator[None]:
    yield
    bridge.stop()
