"""The example runs, small, and leaves nothing."""

from __future__ import annotations

import pytest

from examples import owned_steps


def test_owned_steps(capsys: pytest.CaptureFixture[str]) -> None:
    total, left = owned_steps.main(["--numbers", "5000"])
    assert total == sum(owned_steps.draw(5000)) / 2
    assert left == 0
    assert "0 objects left" in capsys.readouterr().out
