"""Between the event loop that receives messages and the thread that uses them."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from isthmus.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isthmus.stream.protocol import Message

__all__ = ["Inbox"]


class Inbox:
    """Messages that have come, in order.

    Args:
        emptied: called in the thread that takes them, when it has taken all.
    """

    def __init__(self, emptied: Callable[[], None]) -> None:
        self._emptied = emptied
        self._changed = threading.Condition()
        self._messages: list[Message] = []
        self._failure: Exception | None = None
        self._closed = False

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, messages: Sequence[Message]) -> None:
        """Add messages."""
        with self._changed:
            self._messages.extend(messages)
            self._changed.notify_all()

    def fail(self, failure: Exception) -> None:
        """Raise this when what came before is taken."""
        with self._changed:
            self._failure = self._failure or failure
            self._changed.notify_all()

    def close(self) -> None:
        """Wake who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self, timeout: float | None) -> list[Message]:
        """Return all that has come, or wait for it; an empty list after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._messages:
                if self._closed:
                    raise ClosedError("subscriber")
                if self._failure is not None:
                    raise self._failure
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return []
                self._changed.wait(left)
            taken, self._messages = self._messages, []
        self._emptied()
        return taken
