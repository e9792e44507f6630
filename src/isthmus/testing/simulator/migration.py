"""An agent is started anew elsewhere while its last incarnation lives on and knows nothing of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.testing.simulator.delivery import Agent, Client, Delivery
from isthmus.testing.simulator.disk import Disk

if TYPE_CHECKING:
    from isthmus.testing.simulator.faults import Faults
    from isthmus.testing.simulator.world import World

__all__ = ["Hub", "Migration"]

AGENT = "agent"


class Hub(Client):
    """The one that all messages to and from the agent go through, and that says which epoch it has."""

    mortal = False
    history: Migration

    def choose(self) -> tuple[str, list[str]]:
        """Ask the agent."""
        return AGENT, []

    def put(self, peer: bytes, data: object) -> None:
        """Send to the incarnation that is the present one."""
        self.send(self.history.agents[-1].name, data)


class Replica(Agent):
    """One incarnation of the agent, with a disk of its own: nothing tells it that it is superseded."""

    mortal = False

    def __init__(self, name: str, *, disk: Disk) -> None:
        super().__init__(name, disk=disk)
        self.identity = AGENT.encode()


class Migration(Delivery):
    """One history in which an agent moves, a few times.

    To supersede an incarnation: first refuse what it says from now on, then copy its disk, then start the
    copy. What the old one still does is as if it had never been. Promises checked: those of `Delivery`.
    """

    hub_type: type[Hub] = Hub
    replica_type: type[Replica] = Replica

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        super().__init__(seed, faults)
        self.moves = self.world.random.randint(1, 3)
        hub = self.hub_type("hub", disk=Disk())
        replica = self.replica_type(f"{AGENT}#1", disk=Disk(latency=0.005))
        self.clients, self.agents = [hub], [replica]
        self.hub = hub

    def run(self) -> World:
        """Let it happen; see `Delivery.run`."""
        for _ in range(self.moves):
            at = self.world.random.uniform(0, self.world.faults.heal)
            self.world.schedule(at, self.move)
        return super().run()

    def move(self) -> None:
        """Supersede the present incarnation, and let it live on or die."""
        old, epoch = self.agents[-1], len(self.agents) + 1
        assert old.disk
        self.world.note("world", "moves", epoch)
        self.hub.mailbox.meet(AGENT.encode(), epoch)
        disk = Disk(old.disk.table, latency=old.disk.latency)
        disk.epoch = epoch - 1
        new = self.replica_type(f"{AGENT}#{epoch}", disk=disk)
        new.history = self
        self.agents.append(new)
        self.world.add(new)
        self.hub.mailbox.resend(AGENT.encode())
        self.hub.commit()
        self.hub.flush()
        if self.world.random.random() < 0.3:
            self.world.crash(old, float("inf"))

    def agent(self, name: str) -> Agent:
        """Return the present incarnation."""
        return self.agents[-1]

    def open(self) -> list[str]:
        """Return what is outstanding between the hub and the present incarnation."""
        hub, agent = self.hub, self.agents[-1]
        out = [f"{hub.name} asks"] if len(hub.asked) < self.requests else []
        out += [f"{hub.name} waits"] if len(hub.answered) < len(hub.asked) else []
        out += [f"{m.name}: {n} unacknowledged" for m in (hub, agent) if (n := m.outstanding())]
        return out
