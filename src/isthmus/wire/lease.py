"""Leases: who holds one renews it in time; who sweeps judges by nobody's clock but its own.

No two clocks are ever compared. A holder counts from the moment at which it *asked*, which is before the
storage granted; a sweeper counts from the moment at which it *saw* a renewal, which is after it. So the
holder's belief ends before the sweeper's verdict can fall, whatever the two clocks show, as long as they
run at nearly the same rate: `margin` is what their rates may differ by (and what a holder needs between
asking `holds` and acting on it).

What no lease can give: a holder that was suspended past its deadline and goes on without asking `holds`
acts on what may be gone.

All times are seconds on a clock of the caller's choice that only goes forward, and keeps its rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from isthmus.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = ["LeaseHolder", "LeaseSweeper", "Observation", "judge"]

K = TypeVar("K", bound="Hashable")


class LeaseHolder:
    """When to renew a lease, and until when to rely on it.

    Args:
        seconds: the lease's period, which the sweeper has too.
        asked: when the holder asked for it (not when the answer came).
        every: seconds between renewals; a third of the period, so that two may be lost.
        margin: seconds before the end of the period from which on the holder relies on it no more; a tenth.

    Raises:
        SpecError: no renewal would come in time: `every` + `margin` is not less than `seconds`.
    """

    __slots__ = ("_retry", "every", "lost", "margin", "next", "seconds", "until")

    def __init__(
        self,
        seconds: float,
        asked: float,
        *,
        every: float | None = None,
        margin: float | None = None,
    ) -> None:
        self.seconds = seconds
        self.every = seconds / 3 if every is None else every
        self.margin = seconds / 10 if margin is None else margin
        if not (self.every > 0 and self.margin >= 0 and self.every + self.margin < seconds):
            raise SpecError(
                "lease",
                f"renewed every {self.every:g} s with a margin of {self.margin:g} s, one of "
                f"{seconds:g} s runs out; renew more often, or lease for longer",
            )
        # An unanswered renewal is repeated while the period still has room for several attempts.
        self._retry = min(self.every, (seconds - self.margin - self.every) / 4)
        #: Whether the storage said that the lease is gone.
        self.lost = False
        #: When to look again: at `due`.
        self.next = asked + self.every
        #: Until when the holder may rely on its lease.
        self.until = asked + seconds - self.margin

    def due(self, now: float) -> bool:
        """Return whether to send a renewal now; True is an order, and the next one comes later.

        The renewal's sending time, `now`, is what `granted` takes.
        """
        if self.lost or now < self.next:
            return False
        self.next = now + self._retry
        return True

    def granted(self, asked: float) -> None:
        """Note that the renewal sent at `asked` was granted. Late and repeated answers do no harm."""
        until = asked + self.seconds - self.margin
        if until >= self.until and not self.lost:
            self.until = until
            self.next = asked + self.every

    def refused(self, asked: float) -> None:
        """Note that the storage knew no such lease when the renewal sent at `asked` came: it is lost.

        Unless a later one was granted: then the refused one was overtaken.
        """
        if asked + self.seconds - self.margin > self.until:
            self.lost = True

    def holds(self, now: float) -> bool:
        """Return whether what is leased is certainly still there, `margin` seconds from now included."""
        return not self.lost and now < self.until


class Observation(NamedTuple):
    """What a sweeper remembers of a lease: the counter it saw, and since when, on its own clock."""

    counter: Hashable
    since: float


def judge(
    before: Observation | None, counter: Hashable, seconds: float, now: float
) -> tuple[Observation, bool]:
    """Return what to remember of a lease, and whether it is overdue.

    A lease seen for the first time is never overdue: how long it has been lying there, only another's
    clock could tell.

    Args:
        before: what was remembered when this sweeper looked last; None if it has not.
        counter: what stands beside the object: any value that is another one after each renewal, and
            after the object was stored anew (a count and a token; a file's inode and change time).
        seconds: the lease's period.
        now: this sweeper's clock. A clock that started anew (a reboot) is noticed if it shows less.
    """
    if before is None or before.counter != counter or now < before.since:
        return Observation(counter, now), False
    return before, now - before.since >= seconds


class LeaseSweeper(Generic[K]):
    """Many leases, watched by one sweeper.

    A verdict is about a counter, so the deletion must be conditional on it: the holder may renew between
    the look and the deletion. Where the storage cannot compare and delete in one step, set the object
    aside first (rename), look again, and put it back if the counter has moved.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[K, Observation] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def look(self, key: K, counter: Hashable, seconds: float, now: float) -> bool:
        """Return whether the lease of `key`, which shows `counter` now, is overdue (see `judge`)."""
        self._seen[key], overdue = judge(self._seen.get(key), counter, seconds, now)
        return overdue

    def keep(self, keys: Iterable[K]) -> None:
        """Forget all but these: whatever else was leased is gone."""
        wanted = set(keys)
        self._seen = {key: seen for key, seen in self._seen.items() if key in wanted}

    def snapshot(self) -> dict[K, Observation]:
        """Return what to remember for a sweeper that lives for a moment only (a command, a `finally`).

        Only good on the same clock: store what names it (the host's boot id) beside it.
        """
        return dict(self._seen)

    def restore(self, seen: dict[K, Observation]) -> None:
        """Go on from a `snapshot`."""
        self._seen = {key: Observation(*observation) for key, observation in seen.items()}
