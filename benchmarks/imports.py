"""What importing costs, in fresh interpreters (TARGETS 6)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, at_most
from benchmarks.run import main

TITLE = "Imports (TARGETS 6)"

SETUP = """
import os, subprocess, sys
def interpreter(*arguments):
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
command = os.path.join(os.path.dirname(sys.executable), "isthmus")
def program():
    subprocess.run([command, "--help"], check=True, stdout=subprocess.DEVNULL)
"""


def start(statement: str, side: str = "isthmus") -> Code:
    """Time a fresh interpreter that runs one statement."""
    return Code(f"interpreter('-c', {statement!r})", SETUP, side=side)


def cases(quick: bool) -> Iterable[Case]:
    """Yield the import rows: milliseconds of a whole interpreter, so the bare one stands beside each."""
    bare = start("pass")
    yield Case(
        "import isthmus",
        start("import isthmus"),
        {"bare": bare},
        [at_most(5, over="bare")],
        unit="ms",
        rounds=25,
    )
    yield Case(
        "import isthmus.store",
        start("import isthmus.store"),
        {"bare": bare, "ProxyStore": start("import proxystore.store", "ProxyStore")},
        [at_most(60, over="bare")],
        unit="ms",
    )
    yield Case(
        "isthmus --help",
        Code("program()", SETUP),
        {"bare": bare},
        [at_most(150)],
        unit="ms",
    )


if __name__ == "__main__":
    raise SystemExit(main(["imports"]))
