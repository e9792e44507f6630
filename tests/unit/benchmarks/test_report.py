from __future__ import annotations

import pytest

from benchmarks import report
from benchmarks.harness import Case, Result, Value, at_most, compare
from benchmarks.memory import peak_above

MACHINE = {
    "date": "2026-01-02T03:04:05+00:00",
    "processor": "P",
    "cores": 2,
    "memory_gb": 1,
    "kernel": "6",
    "python": "CPython 3.11.7",
    "load": [0.1],
    "versions": {"numpy": "2"},
    "peers": {"ray": "2"},
    "commit": "abc",
}


def results() -> list[Result]:
    good = Case("good", Value("1"), {"bare": Value("1")}, [at_most(2, of="bare")], unit="ns")
    bad = Case("bad", Value("1"), {"peer": Value("1")}, [at_most(250)], unit="B")
    return [
        Result(good, {"isthmus": [10.0, 12.0, 11.0], "bare": [10.0, 10.0, 10.0]}, {}),
        Result(bad, {"isthmus": [20000.0] * 3}, {"peer": "TypeError: no"}),
    ]


def test_a_section_shows_figures_verdicts_and_reasons() -> None:
    data = report.as_json("Things", MACHINE, results(), quick=True)
    text = report.section_markdown("things", data, {"bad": "because"})
    assert "| good | 11 ns ±9 % | bare 10 ns | 1.1× [1, 1.2] | ≤ 2× bare | met |" in text
    assert "| bad | 20 kB | peer TypeError | 20 kB | ≤ 250 B | **missed** |" in text
    assert "- **bad**: because" in text
    assert "**good**:" not in text
    assert "quick run" in text


def test_what_is_not_judged_needs_no_reason() -> None:
    case = Case("shown", Value("1"), {"bare": Value("1")}, [compare("bare")], unit="ms")
    samples = {"isthmus": [1.0, 1.0, 1.0], "bare": [4.0, 4.0, 4.0]}
    data = report.as_json("Things", MACHINE, [Result(case, samples, {})], quick=False)
    text = report.section_markdown("things", data, {})
    assert "| shown | 1 ms | bare 4 ms | 75 % | – | – |" in text
    assert "not met" not in text


@pytest.mark.parametrize(
    ("value", "unit", "says"),
    [
        (1500, "ns", "1.5 µs"),
        (0.02, "µs", "20 ns"),
        (2500, "ms", "2.5 s"),
        (3.14159, "GB/s", "3.14 GB/s"),
    ],
)
def test_amounts_read_well(value: float, unit: str, says: str) -> None:
    assert report.amount(value, unit) == says


def test_the_peak_of_a_call_is_what_it_held_at_once() -> None:
    size = 50_000_000
    peak = peak_above(lambda: len(bytes(bytearray(size))))
    assert 1.9 * size < peak < 2.3 * size
