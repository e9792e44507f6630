"""Waking what waits for a record: coroutines of any event loop, from any thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Bell"]

T = TypeVar("T")


class Bell:
    """Rung when there may be something new; who waits looks again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all who wait."""
        if not self._waiting:
            return  # who begins to wait now has not looked yet
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits there
                future.get_loop().call_soon_threadsafe(_done, future)

    async def until(
        self, look: Callable[[], Awaitable[tuple[T, float | None]]], timeout: float | None
    ) -> T:
        """Look until there is something, again at every ring, and return what was found last.

        Args:
            look: returns what it found, and after how many seconds to look again without a ring (None:
                not at all).
            timeout: seconds after which nothing is an answer; None: never.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # Listening before looking: a record that comes in between rings.
            with self._lock:
                self._waiting.add(future)
            try:
                found, again = await look()
                left = None if deadline is None else deadline - time.monotonic()
                if found or (left is not None and left <= 0):
                    return found
                await asyncio.wait([future], timeout=_least(left, again))
            finally:
                with self._lock:
                    self._waiting.discard(future)


def _least(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else max(0.0, other)
    return max(0.0, min(one, other))


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
