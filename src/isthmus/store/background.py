"""A store's threads for what it does in the background."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from isthmus.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["RESOLVE_THREADS", "Background"]

T = TypeVar("T")

RESOLVE_THREADS = 16
"""Fetches that a store runs at once in the background: they wait on a channel more than they compute."""


class Background:
    """A bounded pool of threads that starts with its first call.

    Args:
        name: whose it is, for the threads' names and for error messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, call: Callable[[], T]) -> Future[T]:
        """Run a call in one of at most :data:`RESOLVE_THREADS` threads.

        Raises:
            ClosedError: the pool is closed.
        """
        with self._lock:
            if self._closed:
                raise ClosedError(f"store {self._name!r}")
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(RESOLVE_THREADS, f"isthmus-resolve-{self._name}")
            return self._pool.submit(call)

    def close(self) -> None:
        """Cancel what has not begun and wait for what has; idempotent."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
