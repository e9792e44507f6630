"""mypy itself on good and bad code, and the exact errors it gives."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from isthmus.proxy import Proxy, extract
from isthmus.typing import ProxyOr

CODE = Path(__file__).parent / "code"
PLUGIN = "isthmus.typing.mypy"
# Notes and guesses at what was meant differ between versions of mypy.
GUESS = re.compile(r'; maybe (".*?"( or )?)+\?')
COMPLAINT = re.compile(r"^(?P<file>.*?):(?P<line>\d+): error: (?P<text>.*)$")


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, str]]]:
    """Run mypy once, on all files; return what it says by file."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("mypy")
    config = folder / "mypy.ini"
    config.write_text(f"[mypy]\nplugins = {PLUGIN}\nstrict = True\nwarn_unreachable = True\n")
    files = [str(CODE / name) for name in ("good.py", "bad.py")]
    cache = os.environ.get("MYPY_CACHE_DIR", str(folder / "cache"))
    # In a process of its own: mypy leaves 300 000 objects behind, and every later test's leak check
    # would have to collect garbage among them (0.24 s each).
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        str(config),
        "--cache-dir",
        cache,
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert not done.stderr
    found: dict[str, list[tuple[int, str]]] = {}
    for line in done.stdout.splitlines():
        if match := COMPLAINT.match(line):
            found.setdefault(Path(match["file"]).name, []).append(
                (int(match["line"]), GUESS.sub("", match["text"]))
            )
    assert "bad.py" in found, done.stdout
    return found


def test_good_code_passes(complaints: dict[str, list[tuple[int, str]]]) -> None:
    assert complaints.get("good.py", []) == []


def test_bad_code_gets_exactly_the_errors_it_names(
    complaints: dict[str, list[tuple[int, str]]],
) -> None:
    expected = [
        (number, text)
        for number, line in enumerate((CODE / "bad.py").read_text().splitlines(), 1)
        for text in line.split("  # E: ")[1:]
    ]
    assert sorted(complaints["bad.py"]) == expected


def test_nothing_else_is_complained_about(complaints: dict[str, list[tuple[int, str]]]) -> None:
    assert complaints.keys() == {"bad.py"}


def test_proxy_or_is_a_type_at_run_time_too() -> None:
    assert set(typing.get_args(ProxyOr[int])) == {int, Proxy[int]}

    def twice(n: ProxyOr[int]) -> int:
        return 2 * extract(n)

    assert typing.get_type_hints(twice)["n"] == ProxyOr[int]
    assert twice(3) == twice(Proxy(lambda: 3)) == 6
