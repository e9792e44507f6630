"""`isthmus demo`, whole and quick: real pools, a real Dask cluster, real shared memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.cli import main
from isthmus.cli.demo.workloads import Cholesky, Words, standard_library

pytest.importorskip("distributed")
COMMAND = [sys.executable, "-m", "isthmus", "demo"]


@pytest.mark.timeout(240)
def test_quick_demo_measures_checks_and_reports(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = subprocess.run(
        [*COMMAND, "--quick", "--json", "--report", str(report)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    measured = {(m["workload"], m["engine"], m["by_proxy"]): m for m in found["measured"]}
    assert len(measured) == 8
    assert found["results_agree"] is True
    for m in measured.values():
        assert len(m["makespans"]) == 2
        assert all(t > 0 for t in m["makespans"])
        assert m["peak_memory"] > 10_000_000
        assert m["tasks"] == (9 if m["workload"] == "words" else 20)
        assert m["check"]
        assert (m["stored_bytes"] > 1_000_000) == m["by_proxy"]
    # What a demo is for: the data does not pass the scheduler, and all of it does by value.
    for workload, data in (("words", 2_000_000), ("cholesky", 1024 * 1024 * 4)):
        for engine in ("process pool", "Dask"):
            assert measured[workload, engine, False]["scheduler_bytes"] > data
            assert measured[workload, engine, True]["scheduler_bytes"] < data / 10
    assert "by proxy" in report.read_text(encoding="utf-8")
    assert "median of 2 runs" in done.stderr


@pytest.mark.timeout(120)
def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--no-report"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    variant: list[str] = []
    while not variant and time.monotonic() < deadline:
        time.sleep(0.05)
        variant = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    time.sleep(0.7)  # well into the variant's start
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in error
    assert variant
    # With its workers: a variant leads a process group. The leak check looks at shared memory.
    assert not [group for group in running_groups() if str(group) in variant]


def running_groups() -> set[int]:
    groups = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if state != "Z":  # where nobody reaps orphans they stay, dead
            groups.add(int(group))
    return groups


def test_a_failing_variant_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Words, "quick", {"bytes": 10, "tasks": 0})
    assert main(["demo", "--quick", "--no-report"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "isthmus: error: the demo's variant words, process, by value ended with code 1"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--workers", "0"], 2, "--workers"),
        (["--report", "/no/such/folder/r.html"], 1, "/no/such/folder/r.html"),
    ],
)
def test_wrong_requests_fail_before_anything_runs(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *arguments]) == code
    assert says in capsys.readouterr().err


def test_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["demo"]) == 1
    assert "pip install 'isthmus[demo]'" in capsys.readouterr().err


def test_sources_are_those_of_this_python() -> None:
    files = list(standard_library())
    names = {path.name for path in files}
    assert {"argparse.py", "decimal.py"} <= names
    assert not any("site-packages" in path.parts or "test" in path.parts for path in files)


def test_a_wrong_result_does_not_pass() -> None:
    from isthmus.bench.apps.mapreduce import count_text, merge
    from isthmus.errors import IsthmusError

    words = Words({"bytes": 100_000, "tasks": 3})
    counts = merge([count_text(part) for part in words.parts])
    assert "words counted" in words.check(counts)
    digest = words.digest(counts)
    counts.words["isthmus"] += 1
    assert words.digest(counts) != digest
    with pytest.raises(IsthmusError):
        words.check(counts)
    cholesky = Cholesky({"matrix": 64, "tile": 16})
    import numpy as np

    factor = np.linalg.cholesky(cholesky.matrix)
    assert "at most" in cholesky.check(factor)
    factor[40, 3] += 1e-9
    with pytest.raises(IsthmusError):
        cholesky.check(factor)
