"""What the linter reports: codes, places, findings."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CODES", "Finding", "Place"]

CODES = {
    "IOW000": "the file cannot be checked: it cannot be read, decoded or parsed",
    "IOW001": "an owned proxy is used after it was moved or dropped",
    "IOW002": "a second mutable borrow while one is alive",
    "IOW003": "a mutable and an immutable borrow are alive at once",
    "IOW004": "an owned proxy is dropped, deleted, rebound or left behind while it is borrowed",
    "IOW005": "an owned proxy is moved while it is borrowed",
}
"""Code to the rule it stands for."""


class Place(NamedTuple):
    """Where something happened: line and column, both from 1, and what it was."""

    line: int
    column: int
    text: str


class Finding(NamedTuple):
    """A rule broken at a place, and the earlier place that it contradicts (None for IOW000).

    `last_line` is where the statement's comment may stand: that of the offending expression's end.
    """

    path: str
    line: int
    column: int
    code: str
    message: str
    earlier: Place | None = None
    last_line: int = 0
