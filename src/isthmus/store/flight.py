"""One fetch per key, however many threads ask for it at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["SingleFlight"]

T = TypeVar("T")


class _Flight(Generic[T]):
    __slots__ = ("error", "landed", "pilot", "result")

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.pilot = threading.get_ident()
        self.result: Any = None
        self.error: BaseException | None = None


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
            # setdefault is atomic: whoever puts the flight there is its pilot.
            flight = self._flights.setdefault(key, mine)
            if flight is mine:
                try:
                    mine.result = fetch()
                    return mine.result  # type: ignore[no-any-return]
                except BaseException as error:
                    mine.error = error
                    raise
                finally:
                    del self._flights[key]
                    mine.landed.set()
            if flight.pilot == threading.get_ident():
                # Decoding this object asked for this object: waiting would be for ourselves.
                return fetch()
            flight.landed.wait()
            if flight.error is None:
                return flight.result  # type: ignore[no-any-return]
