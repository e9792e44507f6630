"""How much a producer may have under way: objects that it stored and nobody has used up yet."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from isthmus.errors import WaitTimeoutError

if TYPE_CHECKING:
    from isthmus.store import Store

__all__ = ["InFlight"]

_LOOKED_AT = 64  # objects, at each look
_LONGEST = 0.02  # seconds between looks


class InFlight:
    """Counts the bytes of objects that are still in their stores.

    What is evicted after its use tells by its absence that it was used: so this works with any channel
    and any store, without a word from consumers.

    Args:
        max_bytes: how many there may be.
        timeout: seconds to wait for room; None waits for ever.
    """

    def __init__(self, max_bytes: int, timeout: float | None) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._timeout = timeout
        self._objects: deque[tuple[Store, tuple[Any, ...], int]] = deque()
        self._lock = threading.Lock()

    def full(self, size: int) -> bool:
        """Whether `size` more bytes are too many, as far as is known without a look."""
        return bool(self._objects) and self.bytes + size > self.max_bytes

    def add(self, store: Store, key: tuple[Any, ...], size: int) -> None:
        """Count an object."""
        with self._lock:
            self._objects.append((store, key, size))
            self.bytes += size

    def wait(self, size: int) -> None:
        """Wait until there is room for `size` bytes; an object larger than the bound goes alone.

        Raises:
            WaitTimeoutError: consumers did not make room in time.
        """
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = 0.0005
        while self.full(size):
            self._look()
            if not self.full(size):
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeoutError(
                    f"room for {size} bytes beside the {self.bytes} that consumers have not used up",
                    self._timeout,
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    def _look(self) -> None:
        # The oldest go first, but one consumer may be slower than another.
        with self._lock:
            looked_at = [
                self._objects.popleft() for _ in range(min(_LOOKED_AT, len(self._objects)))
            ]
        kept = [one for one in looked_at if one[0].exists(one[1])]
        gone = sum(size for *_, size in looked_at) - sum(size for *_, size in kept)
        with self._lock:
            self._objects.extend(kept)
            self.bytes -= gone
