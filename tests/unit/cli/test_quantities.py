"""Bytes, seconds and durations, out and in."""

from __future__ import annotations

import argparse

import pytest

from isthmus.cli.arguments import duration
from isthmus.cli.quantities import age_text, bytes_text, seconds_text
from isthmus.cli.tables import table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_600, "1.00 MB"),
        (123_456_789, "123 MB"),
        (2.5e9, "2.50 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_bytes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.00 µs"), (0.00123, "1.23 ms"), (0.9996, "1.00 s"), (61.2, "61.2 s"), (-0.5, "-500 ms")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (7260, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1h", "2 weeks", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="2h"):
        duration(text)


def test_table_is_as_wide_as_its_cells() -> None:
    assert table(["name", "n"], [["a", "10"], ["longer", "2"]], right=[1]).splitlines() == [
        "name     n",
        "a       10",
        "longer   2",
    ]
