"""The memory figure's script runs, small, and who evicts leaves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import pytest

from benchmarks import memory_use


@pytest.fixture(autouse=True)
def no_tracker_stays() -> Iterator[None]:
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    resource_tracker._resource_tracker._stop()


def test_memory_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--rounds", "2", "--mappers", "3", "--input", "20000", "--output", "10000"]
    traces = memory_use.main([*sizes, "--seconds", "0.01", "--out", str(tmp_path)])
    left = {variant: trace[-1][2] for variant, (trace,) in traces.items()}
    assert left.pop("default") >= 2 * 3 * 30_000
    assert set(left.values()) == {0}, "of those who evict, or store nothing"
    assert all(anonymous > 0 for (trace,) in traces.values() for _, anonymous, _ in trace)
    assert "in the store at the end" in capsys.readouterr().out
    written = json.loads((tmp_path / "memory_use.json").read_text())
    assert list(written["traces"]) == list(memory_use.VARIANTS)
    assert (tmp_path / "memory_use.svg").read_text().count("<polyline") == len(traces)
