"""One fetch per key, however many threads ask for it at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["SingleFlight"]

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("arrived", "landed", "pilot", "result")

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.pilot = threading.get_ident()
        self.arrived = False
        self.result: Any = None


class SingleFlight(Generic[T]):
    """Runs one call per key at a time; those who ask meanwhile get its result.

    A failure is each waiter's own to raise: waiters whose flight failed fetch for themselves, one
    after the other, so no exception object (and its growing traceback) is shared between threads.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight[T]] = {}

    def run(self, key: Hashable, fetch: Callable[[], T]) -> T:
        """Return ``fetch()``, or the result of the fetch for `key` that is under way."""
        while True:
            mine: _Flight[T] = _Flight()
            try:
                # setdefault is atomic: whoever puts the flight there is its pilot.
                flight = self._flights.setdefault(key, mine)
                if flight is mine:
                    mine.result = fetch()
                    mine.arrived = True
                    return mine.result  # type: ignore[no-any-return]
            finally:
                if self._flights.get(key) is mine:
                    self._flights.pop(key, None)  # not del: it may be forgotten just now
                mine.landed.set()
            if flight.pilot == threading.get_ident():
                # Decoding this object asked for this object: waiting would be for ourselves.
                return fetch()
            flight.landed.wait()
            if flight.arrived:
                return flight.result  # type: ignore[no-any-return]

    def forget(self, key: Hashable) -> None:
        """Let nobody join the fetch for `key` that is under way: what it brings is out of date."""
        self._flights.pop(key, None)

    def clear(self) -> None:
        """Let nobody join any fetch that is under way."""
        self._flights.clear()
