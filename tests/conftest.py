"""Every test is checked for leaks; `leaks_allowed` names what a library keeps for its whole life."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isthmus.testing.leaks import no_leaks


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaks_allowed(*parts): names that a library keeps")


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    allowed: list[str] = []
    for marker in request.node.iter_markers("leaks_allowed"):
        allowed.extend(marker.args)
    with no_leaks(ignore=allowed):
        yield
