"""The example runs, small: what it prints is its own affair, what it leaves is ours."""

from __future__ import annotations

import pytest

from examples import pipelining


@pytest.mark.parametrize("fraction", ["0.2", "0.5", "0.8"])
def test_pipelining(fraction: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tasks", "4", "--seconds", "0.02", "--bytes", "1000", "--fractions", fraction]
    ((f, one, other, ideal),) = pipelining.main(arguments)
    assert f == float(fraction)
    assert one >= 4 * 0.02, "nothing of a sequence overlaps"
    assert other >= ideal > 0, "nothing is faster than the longest chain of what must follow"
    assert "above ideal" in capsys.readouterr().out
