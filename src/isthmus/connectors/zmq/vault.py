"""The objects of one server: what lies where, for whom there is room, what is overdue. No I/O, no clock."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from itertools import count, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ENTRY_BYTES", "Draft", "Entry", "FullVaultError", "Vault"]

ENTRY_BYTES = 1024
"""What an object takes besides its own bytes, about; so that many empty ones find the limit too."""


_SILENT_SECONDS = 60.0
"""How long a writer on another node, of which nothing is known, may send nothing."""
_STOPPED_SECONDS = 600.0
"""How long one may that lives on this node: it may be suspended, or have given up and not said so."""


class _Sized(Protocol):
    def __len__(self) -> int: ...


F = TypeVar("F", bound=_Sized)


class FullVaultError(Exception):
    """There is no room."""


class Entry(Generic[F]):
    """A complete object.

    Attributes:
        size: of all chunks, in bytes.
        chunks: each in the frames that it came in.
        created: Unix time.
        serial: no other object of this vault has it.
        lease: seconds, or None.
        until: when the lease runs out, on the vault's clock.
    """

    __slots__ = ("chunks", "created", "lease", "serial", "size", "until")

    def __init__(self, size: int, chunks: list[Sequence[F]], created: float, serial: int) -> None:
        self.size = size
        self.chunks = chunks
        self.created = created
        self.serial = serial
        self.lease: float | None = None
        self.until = float("inf")

    def frames(self) -> Iterator[F]:
        """Yield all frames in order."""
        for chunk in self.chunks:
            yield from chunk


class Draft(Generic[F]):
    """An object that is being written; its room is booked.

    Attributes:
        writer: file that the writing process has locked, or nothing.
        touched: when its last chunk came.
    """

    __slots__ = ("absent", "chunks", "lease", "name", "received", "size", "touched", "writer")

    def __init__(
        self, name: str, size: int, writer: str, absent: bool, lease: float | None
    ) -> None:
        self.name = name
        self.size = size
        self.writer = writer
        self.absent = absent
        self.lease = lease
        self.chunks: list[Sequence[F]] = []
        self.received = 0
        self.touched = 0.0


class _Due(NamedTuple):
    until: float
    serial: int
    name: str


class Vault(Generic[F]):
    """Objects by name, in memory of a limited size.

    Args:
        limit: bytes that all objects may have, the unfinished ones too, with `ENTRY_BYTES` for each.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._entries: dict[str, Entry[F]] = {}
        self._listing: list[tuple[int, str]] = []
        self._drafts: dict[int, Draft[F]] = {}
        self._due: list[_Due] = []
        self._serials = count(1)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def drafts(self) -> int:
        """How many objects are being written."""
        return len(self._drafts)

    def find(self, name: str) -> Entry[F] | None:
        """Return an object."""
        return self._entries.get(name)

    def put(
        self,
        name: str,
        frames: Sequence[F],
        *,
        absent: bool,
        lease: float | None,
        created: float,
        now: float,
    ) -> bool:
        """Store an object of one chunk; False if one is there and it should be absent.

        Raises:
            FullVaultError: nothing was stored.
        """
        if absent and name in self._entries:
            return False
        size = sum(map(len, frames))
        self._book(size)
        self._keep(name, size, [frames], lease, created, now)
        return True

    def begin(self, draft: Draft[F], now: float) -> int:
        """Book room for an object and return a number for it; 0 if it should be absent and is not.

        Raises:
            FullVaultError: there is no room.
        """
        if draft.absent and draft.name in self._entries:
            return 0
        self._book(draft.size)
        draft.touched = now
        number = next(self._serials)
        self._drafts[number] = draft
        return number

    def add(self, number: int, frames: Sequence[F], now: float) -> None:
        """Add a chunk to an unfinished object; one with too many bytes is given up."""
        draft = self._drafts.get(number)
        if draft is None:
            return
        draft.chunks.append(frames)
        draft.received += sum(map(len, frames))
        draft.touched = now
        if draft.received > draft.size:
            self._drop(number)

    def finish(self, number: int, *, created: float, now: float) -> bool | None:
        """Make an unfinished object visible, unless one is there and it should be absent.

        Returns:
            None if it was given up, or does not have the size that was announced.
        """
        draft = self._drafts.get(number)
        if draft is None:
            return None
        if draft.received != draft.size or (draft.absent and draft.name in self._entries):
            self._drop(number)
            return None if draft.received != draft.size else False
        del self._drafts[number]
        self._keep(draft.name, draft.size, draft.chunks, draft.lease, created, now)
        return True

    def name_of(self, number: int) -> str | None:
        """Return the name of an unfinished object."""
        draft = self._drafts.get(number)
        return None if draft is None else draft.name

    def evict(self, name: str) -> bool:
        """Delete an object; False if there is none."""
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        self._free(entry.size)
        return True

    def clear(self) -> int:
        """Delete every object; return how many."""
        return sum(self.evict(name) for name in [*self._entries])

    def lease(self, name: str, seconds: float | None, now: float) -> bool:
        """Give an object a deadline, or none; False if there is no object."""
        entry = self._entries.get(name)
        if entry is None:
            return False
        entry.lease = seconds
        self._schedule(name, entry, now)
        return True

    def renew(self, name: str, now: float) -> bool:
        """Begin an object's lease anew; False if it has none."""
        entry = self._entries.get(name)
        if entry is None or entry.lease is None:
            return False
        self._schedule(name, entry, now)
        return True

    def expire(self, now: float) -> int:
        """Delete what is overdue; return the bytes freed. Takes time for what was due, not for all."""
        freed = 0
        while self._due and self._due[0].until <= now:
            due = heapq.heappop(self._due)
            entry = self._entries.get(due.name)
            # One that was renewed has a later turn.
            if entry is not None and entry.serial == due.serial and entry.until <= now:
                freed += entry.size
                self.evict(due.name)
        return freed

    def next_due(self) -> float:
        """Return when `expire` has something to do, at the earliest."""
        return self._due[0].until if self._due else float("inf")

    def sweep(self, alive: Callable[[str], bool], now: float) -> int:
        """Give up the unfinished objects of writers that ended; return the bytes received of them.

        Args:
            alive: whether the process that has a file locked still runs.
            now: time on the vault's clock.
        """
        freed = 0
        for number, draft in [*self._drafts.items()]:
            patience = _STOPPED_SECONDS if draft.writer else _SILENT_SECONDS
            if now - draft.touched < patience and (not draft.writer or alive(draft.writer)):
                continue
            freed += draft.received
            self._drop(number)
        return freed

    def entries(self, after: int, most: int) -> list[tuple[str, Entry[F]]]:
        """Return objects stored after the one with a serial number, the oldest first."""
        if not after or not self._listing:  # once for all pages, not for each
            self._listing = sorted((e.serial, name) for name, e in self._entries.items())
        found: list[tuple[str, Entry[F]]] = []
        at = bisect_right(self._listing, after, key=itemgetter(0))
        for serial, name in islice(self._listing, at, None):
            entry = self._entries.get(name)
            if entry is not None and entry.serial == serial:
                found.append((name, entry))
                if len(found) == most:
                    return found
        self._listing = []
        return found

    def _book(self, size: int) -> None:
        if self.used + size + ENTRY_BYTES > self.limit:
            raise FullVaultError
        self.used += size + ENTRY_BYTES

    def _free(self, size: int) -> None:
        self.used -= size + ENTRY_BYTES

    def _drop(self, number: int) -> None:
        self._free(self._drafts.pop(number).size)

    def _keep(
        self,
        name: str,
        size: int,
        chunks: list[Sequence[F]],
        lease: float | None,
        created: float,
        now: float,
    ) -> None:
        self.evict(name)
        entry = Entry(size, chunks, created, next(self._serials))
        entry.lease = lease
        self._entries[name] = entry
        self._schedule(name, entry, now)

    def _schedule(self, name: str, entry: Entry[F], now: float) -> None:
        entry.until = float("inf") if entry.lease is None else now + entry.lease
        if entry.lease is not None:
            heapq.heappush(self._due, _Due(entry.until, entry.serial, name))
            if len(self._due) > 4 * len(self._entries) + 64:
                # Renewals leave their former turns behind.
                self._due = [
                    _Due(e.until, e.serial, n)
                    for n, e in self._entries.items()
                    if e.lease is not None
                ]
                heapq.heapify(self._due)
