"""From a Markdown page to one script that does what the page shows.

Every `python` block is part of the script, at its own line number, so a traceback points into the page.
The commands in `bash` and `console` blocks that start with `isthmus` or `python FILE.py` are run too, in
their place and in the same folder. A comment right above a block changes that:

    <!-- skip: REASON -->     the block is not run
    <!-- needs: MODULE -->    run only where the module can be imported (and with the tests marked `extras`)
    <!-- file: NAME -->       the block is written to a file, for what follows to use
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})\s*\{?\.?(?P<language>[\w+-]*)")
MARKER = re.compile(r"^\s*<!-- *(?P<kind>skip|needs|file): *(?P<text>.+?) *-->\s*$")
MARKED = re.compile(r"^\s*<!-- *(skip|needs|file)\b")
COMMAND = re.compile(r"(isthmus|python \S+\.py)(\s|$)")
PYTHON = {"python", "py", "pycon"}
SHELL = {"bash", "sh", "shell", "console"}
SENTINEL = "the page ran to its end"


class Block(NamedTuple):
    """A fenced block; `line` is that of its first line of code, from 1."""

    language: str
    line: int
    code: list[str]
    marker: str
    text: str


def pages() -> list[Path]:
    """Return README.md and every page below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page.

    Raises:
        ValueError: a marker is misspelt, says nothing, or stands above no block.
    """
    lines = iter(enumerate(page.splitlines(), 1))
    marker: re.Match[str] | None = None
    for number, line in lines:
        if fence := FENCE.match(line):
            indent, ticks = len(fence["indent"]), fence["ticks"]
            code = []
            for _, inner in lines:
                if inner.strip() == ticks:
                    break
                code.append(inner[indent:])
            kind, text = (marker["kind"], marker["text"]) if marker else ("", "")
            yield Block(fence["language"].lower(), number + 1, code, kind, text)
            marker = None
        elif MARKED.match(line):
            marker = MARKER.match(line)
            if not marker:
                raise ValueError(f"line {number}: a marker without its text: {line.strip()}")
        elif line.strip() and marker:
            raise ValueError(f"line {number}: the marker above stands over no block")


def commands(block: Block) -> Iterator[tuple[int, str]]:
    """Yield the commands of a shell block that are run, with their line numbers."""
    joined, start = "", 0
    for number, line in enumerate(block.code, block.line):
        if block.language == "console" and not joined:
            if not line.startswith("$ "):
                continue  # what the command printed
            line = line[2:]
        start = start if joined else number
        joined += line.removesuffix("\\")
        if not line.endswith("\\"):
            if COMMAND.match(joined):
                yield start, joined
            joined = ""


def script(page: str, available: frozenset[str] = frozenset()) -> str | None:
    """Return the page as one script, or None if nothing in it runs.

    Args:
        page: the Markdown text.
        available: the modules named by `needs` that may be used.
    """
    lines = [""] * (page.count("\n") + 2)
    lines[0] = (
        "def _run(command): import subprocess; "
        "subprocess.run(command, shell=True, check=True, stdin=subprocess.DEVNULL)"
    )
    runs = False
    for block in blocks(page):
        if block.marker == "skip" or (block.marker == "needs" and block.text not in available):
            continue
        first = block.line - 1
        if block.marker == "file":
            text = "\n".join(block.code) + "\n"
            lines[first] = f"import pathlib; pathlib.Path({block.text!r}).write_text({text!r})"
        elif block.language in PYTHON:
            lines[first : first + len(block.code)] = block.code
        elif block.language in SHELL:
            for number, command in commands(block):
                lines[number - 1] = f"_run({command!r})"
        runs = runs or any(lines[first : first + len(block.code)])
    return "\n".join([*lines, f"print({SENTINEL!r})", ""]) if runs else None


def needs(page: str) -> frozenset[str]:
    """Return the modules that blocks of the page ask for."""
    return frozenset(b.text for b in blocks(page) if b.marker == "needs")
