"""Waiting for an object on channels that wake nobody."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "longer", "poll"]

FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.005
"""Seconds between looks: short for what comes soon, and never so long that it would be felt."""
_GROWTH = 1.5


def longer(pause: float) -> float:
    """Return the pause after a look that found nothing."""
    return min(pause * _GROWTH, LONGEST_PAUSE)


def poll(happened: Callable[[], bool], timeout: float | None) -> bool:
    """Block until `happened` says so; False if `timeout` seconds passed first (None: wait for ever).

    inotify would be exact on one host, but on parallel and network file systems it misses what other
    hosts do, without saying so.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = FIRST_PAUSE
    while not happened():
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            pause = min(pause, left)
        time.sleep(pause)
        pause = longer(pause)
    return True
