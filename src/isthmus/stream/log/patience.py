"""Trying again while a broker does not answer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["steadily"]

T = TypeVar("T")

_FIRST, _LONGEST = 0.02, 1.0  # seconds between attempts


async def steadily(call: Callable[[], Awaitable[T]], patience: float) -> T:
    """Return what `call` does, called again while it raises `BrokenError`.

    Args:
        call: may be called often.
        patience: seconds after which the error is raised.
    """
    deadline = time.monotonic() + patience
    pause = _FIRST
    while True:
        try:
            return await call()
        except BrokenError:
            if time.monotonic() + pause > deadline:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST)
