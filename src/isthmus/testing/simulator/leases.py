"""Holders and sweepers whose clocks agree on nothing: is what is held kept, and what is not, deleted?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.testing.simulator.world import Node, World
from isthmus.wire.lease import LeaseHolder, LeaseSweeper

if TYPE_CHECKING:
    from isthmus.testing.simulator.faults import Faults

__all__ = ["Holder", "Leases", "Storage", "Sweeper"]

SECONDS = 1.0
POLL = 0.02


class Leased(NamedTuple):
    """What stands beside an object."""

    counter: tuple[int, int]  # which put, how many renewals
    seconds: float
    asked: float  # by the holder's clock: nobody else's business


class Storage(Node):
    """Keeps objects; deletes one only if nobody renewed it since the sweeper looked."""

    mortal = False
    history: Leases

    def on_start(self) -> None:
        """Begin with nothing."""
        self.objects: dict[str, Leased] = {}
        self.puts = 0

    def on_message(self, source: str, data: Any, path: str) -> None:
        """Do what is asked."""
        verb, key, more = data
        found = self.objects.get(key)
        if verb == "put":
            self.puts += 1
            self.objects[key] = Leased((self.puts, 0), SECONDS, more)
            self.send(source, ("granted", key, more))
        elif verb == "renew" and found:
            put, renewals = found.counter
            self.objects[key] = Leased((put, renewals + 1), SECONDS, more)
            self.send(source, ("granted", key, more))
        elif verb == "renew":
            self.send(source, ("refused", key, more))
        elif verb == "list":
            self.send(source, ("objects", "", sorted(self.objects.items())))
        elif found and self.unmoved(found, more):
            self.note("sweeps", key, more)
            self.history.on_swept(key)
            del self.objects[key]

    def unmoved(self, found: Leased, counter: tuple[int, int]) -> bool:
        """Return whether an object is as the sweeper saw it."""
        return found.counter == counter


class Holder(Node):
    """Puts an object and holds it; after a crash, another one."""

    history: Leases

    def on_start(self) -> None:
        """Ask for a lease."""
        self.key = f"{self.name}.{self.life}"
        self.holder: LeaseHolder | None = None
        self.granted = False
        self.steady = False
        self.put()
        self.timer(POLL, "poll")

    def put(self) -> None:
        """Put the object; the lease counts from now."""
        asked = self.now()
        self.holder = self.history.holder_type(SECONDS, asked)
        self.send("storage", ("put", self.key, asked))

    def on_message(self, source: str, data: Any, path: str) -> None:
        """Take the storage's answer."""
        verb, key, asked = data
        if key != self.key or not self.holder:
            return
        self.note(verb, key, asked)
        if verb == "granted":
            self.granted = True
            self.holder.granted(asked)
            self.steady = self.steady or self.world.healed
        else:
            self.holder.refused(asked)
            lost = self.steady and self.holder.lost
            self.world.check(not lost, "who can renew in time keeps its object", key)

    def on_timer(self, name: str) -> None:
        """Renew, if it is time."""
        if self.history.over or not self.holder:
            self.holder = None
            return
        now = self.now()
        if not self.granted and not self.holder.holds(now):
            self.put()  # the first one, or its answer, was lost
        elif self.granted and self.holder.due(now):
            self.send("storage", ("renew", self.key, now))
        self.timer(POLL, "poll")

    def holds(self, key: str) -> bool:
        """Return whether it relies on an object now."""
        holder = self.holder
        return (
            self.up
            and key == self.key
            and self.granted
            and bool(holder and holder.holds(self.now()))
        )


class Sweeper(Node):
    """Looks now and then; what stood still for too long on its own clock, it has deleted."""

    history: Leases

    def on_start(self) -> None:
        """Begin to look, having seen nothing."""
        self.sweeper = LeaseSweeper[str]()
        self.every = self.world.random.uniform(0.1, 0.5)
        self.timer(self.every, "look")

    def on_timer(self, name: str) -> None:
        """Look."""
        self.send("storage", ("list", "", None))
        self.timer(self.every, "look")

    def on_message(self, source: str, data: Any, path: str) -> None:
        """Judge what there is."""
        _, _, objects = data
        for key, leased in objects:
            if self.overdue(key, leased):
                self.note("overdue", key, leased.counter)
                self.send("storage", ("sweep", key, leased.counter))
        self.sweeper.keep([key for key, _ in objects])

    def overdue(self, key: str, leased: Leased) -> bool:
        """Return whether an object is to go."""
        return self.sweeper.look(key, leased.counter, leased.seconds, self.now())


class Leases:
    """One history of the lease protocol.

    Promises checked: no object is deleted on which its holder relies; a holder that the network lets renew
    keeps its object; and when holders have ended, nothing is left after the lease.
    """

    holder_type: type[LeaseHolder] = LeaseHolder
    sweeper_type: type[Sweeper] = Sweeper
    storage_type: type[Storage] = Storage

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.world = World(seed, faults)
        random = self.world.random
        self.over = False
        self.storage = self.storage_type("storage")
        self.storage.history = self
        self.holders = [Holder(f"holder{n}") for n in range(random.randint(1, 3))]
        self.sweepers = [self.sweeper_type(f"sweeper{n}") for n in range(random.randint(1, 2))]

    def run(self) -> World:
        """Let it happen.

        Raises:
            Violation: a promise was broken.
        """
        world = self.world
        world.add(self.storage)
        for holder in self.holders:
            holder.history = self
            world.add(holder)
        for sweeper in self.sweepers:
            sweeper.history = self
            world.add(sweeper)
        world.unleash()
        world.run(world.faults.heal + 5)
        self.over = True
        # The lease, by the slowest clock, and a few looks.
        gone = world.run_until(lambda: not self.storage.objects, world.now + 1.5 * SECONDS + 3)
        world.check(gone, "nothing is left after the lease", *self.storage.objects)
        return world

    def on_swept(self, key: str) -> None:
        """Check a deletion."""
        held = [holder.name for holder in self.holders if holder.holds(key)]
        self.world.check(not held, "no object is swept that its holder relies on", key, *held)
