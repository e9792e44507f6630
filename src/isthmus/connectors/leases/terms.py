"""How long a lease lasts, and the clock that it is timed on."""

from __future__ import annotations

import math
import os
import time
from functools import cache
from typing import NamedTuple, SupportsFloat

from isthmus.connectors.naming import host_id

__all__ = ["Terms", "clock_id", "now", "terms"]

# Goes on while the machine sleeps, as a file server's or another host's does; nobody sets it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Terms(NamedTuple):
    """What a lease says."""

    seconds: float
    """How long the object is kept after the last renewal."""
    held: bool
    """Whether it is also kept as long as the process that leased it lives."""


def terms(lease: float | None, held: bool) -> Terms | None:
    """Return the terms that `put` was given, None for no lease.

    Raises:
        ValueError: `lease` is not positive and finite, or there is nothing that could be held.
        TypeError: `lease` is no number.
    """
    if lease is None:
        if held:
            raise ValueError(
                "held=True says when a lease counts, so it needs one; give lease=SECONDS"
            )
        return None
    given: object = lease  # by callers whose types nobody checked, too
    try:
        seconds = float(given) if isinstance(given, SupportsFloat) else None
    except OverflowError:  # an integer beyond all floats
        seconds = math.inf
    if seconds is None or isinstance(given, bool):
        raise TypeError(f"a lease must be a number of seconds, got {lease!r}")
    if not 0 < seconds < math.inf:
        raise ValueError(f"a lease must last a positive number of seconds, got {lease!r}")
    return Terms(seconds, held)


def now() -> float:
    """Return seconds of this host's clock since its boot."""
    return time.clock_gettime(_CLOCK)


@cache
def clock_id() -> str:
    """Return eight hex digits that two processes have in common if their `now` agrees."""
    try:
        namespace = os.readlink("/proc/self/ns/time")  # containers can have clocks of their own
    except OSError:
        namespace = ""
    return host_id(f"clock {namespace}")
