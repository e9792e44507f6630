"""Applications, each of which checks its own result."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Check"]


class Check(NamedTuple):
    """What an application found when it checked its result."""

    found: str
    """In words, with figures."""
    seconds: float
    """What checking took, on the client; no part of the application's own time."""
