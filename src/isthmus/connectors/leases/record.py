"""What a lease file says, and when that means that its object may go.

Where the file was last written on the host that reads it, one clock timed both. Where another host wrote
it, its time means nothing here: the reader notes on its own clock when it first saw the file as it is, and
the object may go when it has not changed for the whole period. Each renewal changes its count.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import msgspec

__all__ = ["RECORD_BYTES", "UNREADABLE", "Observations", "Record"]

RECORD_BYTES = 256
_MAGIC = "isthmus-lease1"


class Record(NamedTuple):
    """A lease."""

    seconds: float
    turn: int
    """Goes up with each renewal."""
    renewed: float
    """When it was last renewed, by the clock of `clock`."""
    clock: str
    """`clock_id` of the process that renewed it."""
    object: int
    """Identity of the object: of what lies under the same key later, it is no lease."""
    holder: str = ""
    """Name of the locked file that says that the leasing process lives; empty where it does not hold."""

    @classmethod
    def read(cls, data: bytes) -> Record | None:
        """Return the record in a lease file; None if it is not whole."""
        try:
            magic, seconds, turn, renewed, clock, object_, holder = data.decode().split()
            if magic != _MAGIC or len(data) != RECORD_BYTES:
                return None
            name = "" if holder == "-" else holder
            return cls(float(seconds), int(turn), float(renewed), clock, int(object_), name)
        except ValueError:
            return None

    def write(self) -> bytes:
        """Return the file's contents: text, for people to read, and always of the same length."""
        fields = (_MAGIC, *self[:-1], self.holder or "-")
        return " ".join(map(str, fields)).encode().ljust(RECORD_BYTES - 1) + b"\n"

    def renew(self, at: float, clock: str) -> Record:
        """Return the record of a new period that begins at `at`."""
        return self._replace(turn=self.turn + 1, renewed=at, clock=clock)


UNREADABLE = Record(3600.0, 0, 0.0, "", -1)
"""Stands for a file that its writer did not finish: it is left alone for an hour."""


class Observations:
    """Which lease files of other hosts were seen, how they were, and since when.

    Args:
        data: what `dump` returned, also in another process of this host, or nothing.
    """

    def __init__(self, data: bytes = b"") -> None:
        self._seen: dict[str, tuple[str, float]] = {}
        with contextlib.suppress(msgspec.DecodeError):  # none yet, or cut short: all begin anew
            self._seen = msgspec.json.decode(data, type=dict[str, tuple[str, float]])
        self._met: set[str] = set()

    def due(self, name: str, record: Record) -> float | None:
        """Return when the lease runs out on our clock if it stays as it is; None if never seen so."""
        self._met.add(name)
        mark, since = self._seen.get(name, ("", 0.0))
        return since + record.seconds if mark == _mark(record) else None

    def note(self, name: str, record: Record, at: float) -> float:
        """Note how a lease is now; return when it runs out on our clock if it stays so."""
        due = self.due(name, record)
        if due is None:
            self._seen[name] = (_mark(record), at)
            due = at + record.seconds
        return due

    def dump(self) -> bytes:
        """Return what was seen, without what was not met again."""
        return msgspec.json.encode({n: s for n, s in self._seen.items() if n in self._met})


def _mark(record: Record) -> str:
    fields: tuple[Any, ...] = (record.clock, record.turn, record.renewed, record.object)
    return " ".join(map(str, fields))
