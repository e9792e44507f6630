"""Clients ask agents, agents ask agents, everything fails: are effects there once, and in order?"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

import msgspec

from isthmus.testing.simulator.disk import Disk
from isthmus.testing.simulator.member import Member
from isthmus.testing.simulator.world import World
from isthmus.wire.envelope import Ack, Buffer, Envelope, Kind, decode, first_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.testing.simulator.faults import Faults

__all__ = ["Agent", "Client", "Delivery"]


class Job(msgspec.Struct, array_like=True):
    """What a client asks for: an effect named `token` here, and one at each agent of `route` before."""

    token: str
    index: int  # position in what its client asked of this agent; -1 in a nested call
    route: list[str]


_job = msgspec.msgpack.Decoder(Job).decode
_pack = msgspec.msgpack.Encoder().encode


class Agent(Member):
    """Handles one request at a time. An effect is a token in its state."""

    history: Delivery

    def load_state(self, stored: object) -> None:
        """Take up the effects."""
        self.effects: list[str] = list(cast("tuple[str, ...]", stored or ()))
        self.seen = set(self.effects)
        self.queue: deque[Envelope] = deque()
        self.working: Envelope | None = None
        self.calling = 0

    def save_state(self) -> object:
        """Return the effects."""
        return tuple(self.effects)

    def durable(self) -> tuple[str, ...]:
        """Return the effects that a crash could not undo."""
        assert self.disk
        return cast("tuple[str, ...]", self.disk.table.get(b"state", ()))

    def handle(self, envelope: Envelope) -> None:
        """Take a request; or the answer that the present one waits for."""
        if envelope.kind == Kind.REQUEST:
            self.queue.append(envelope)
            self.work()
        elif envelope.request == self.calling:
            self.think()

    def on_timer(self, name: str) -> None:
        """Finish what was thought about."""
        if name == "finish":
            self.finish()
        else:
            self.work()
            super().on_timer(name)

    def work(self) -> None:
        """Begin the next request: with its nested call, if there is one."""
        if self.working or not self.queue or not self.mailbox.outbox.room(self.queue[0].sender):
            return
        self.working = self.queue.popleft()
        job = _job(self.working.payload[0])
        self.note("begins", job.token)
        if not job.route:
            self.think()
            return
        call = _pack(Job(job.token, -1, job.route[1:]))
        self.calling, early = self.mailbox.call(self.working, 0, job.route[0].encode(), [call])
        if early:
            self.think()

    def think(self) -> None:
        """Take some time."""
        self.calling = 0
        self.timer(self.world.random.expovariate(100), "finish")

    def finish(self) -> None:
        """Have the effect, and answer."""
        request = self.working
        assert request
        job = _job(request.payload[0])
        self.note("effect", job.token)
        self.history.on_effect(self, job)
        self.effects.append(job.token)
        self.seen.add(job.token)
        self.mailbox.reply(request, [job.token.encode()])
        self.mailbox.done(request)
        self.working = None
        self.commit()
        self.work()
        self.flush()


class Client(Member):
    """Asks for effects, and wants each answer once."""

    history: Delivery

    def load_state(self, stored: object) -> None:
        """Take up what was asked and answered; nothing, if it has no disk."""
        asked, answered = cast("tuple[Any, Any]", stored or ((), ()))
        self.asked: list[tuple[str, str]] = list(asked)
        self.answered: list[str] = list(answered)
        self.pause()

    def save_state(self) -> object:
        """Return what was asked and answered."""
        return tuple(self.asked), tuple(self.answered)

    def pause(self) -> None:
        """Wait before the next request."""
        if len(self.asked) < self.history.requests:
            self.timer(self.world.random.expovariate(self.history.rate), "ask")

    def choose(self) -> tuple[str, list[str]]:
        """Return whom to ask, and whom that one is to ask first."""
        random = self.world.random
        agents = [agent.name for agent in self.history.agents]
        place = random.randrange(len(agents))
        # Calls go one way: agents that handle one request at a time would wait for each other.
        return agents[place], [name for name in agents[place + 1 :] if random.random() < 0.4]

    def on_timer(self, name: str) -> None:
        """Ask."""
        if name != "ask":
            super().on_timer(name)
            return
        to, route = self.choose()
        count = len(self.asked)
        index = count if self.disk else self.epoch * 1_000_000 + count
        token = f"{self.name}.{index}"
        self.asked.append((to, token))
        self.mailbox.outbox.send(
            to.encode(), [_pack(Job(token, index, route))], Kind.REQUEST,
            request=first_id(self.identity, 0 if self.disk else self.epoch, count),
            # What a client that forgets asked for must not be kept for ever on its behalf.
            deadline=0 if self.disk else int((self.world.now + 20) * 1000),
        )  # fmt: skip
        self.note("asks", to, token)
        self.commit()
        self.pause()
        self.flush()

    def on_message(self, source: str, data: Sequence[Buffer], path: str) -> None:
        """Compare what the acknowledgement releases with what there is."""
        message = decode(data)
        if not isinstance(message, Ack):
            super().on_message(source, data, path)
            return
        outbox = self.mailbox.outbox
        before = outbox.unacknowledged(message.by)
        super().on_message(source, data, path)
        kept = {envelope.seq for envelope in outbox.unacknowledged(message.by)}
        for envelope in before:
            if envelope.seq not in kept:
                self.history.on_released(source, _job(envelope.payload[0]).token)

    def handle(self, envelope: Envelope) -> None:
        """Take an answer."""
        token = bytes(envelope.payload[0]).decode()
        self.note("answered", token)
        if any(asked == token for _, asked in self.asked):
            self.history.on_answer(self, envelope.sender.decode(), token)
            self.answered.append(token)
        self.mailbox.done(envelope)
        self.commit()


class Delivery:
    """One history of the mailbox protocol.

    Promises checked: what is acknowledged or answered is in the receiver's storage; no effect is there
    twice; each client's effects come in its order; a nested call's effect is there before its caller's;
    and once faults have ended, everything outstanding is acknowledged and answered.
    """

    agent_type: type[Agent] = Agent
    client_type: type[Client] = Client

    def __init__(self, seed: int, faults: Faults | None = None) -> None:
        self.world = World(seed, faults)
        random = self.world.random
        self.requests = random.randint(3, 15)
        self.rate = random.choice((2, 10, 100))
        self.agents: list[Agent] = []
        self.clients: list[Client] = []
        for number in range(random.randint(1, 3)):
            disk = Disk(latency=random.choice((0.0005, 0.005, 0.05)))
            self.agents.append(self.agent_type(f"agent{number}", disk=disk))
        for number in range(random.randint(1, 3)):
            self.clients.append(
                self.client_type(f"client{number}", disk=Disk() if random.random() < 0.5 else None)
            )
        #: Tokens asked for by a client itself, not by a nested call: these have an order.
        self.direct: set[tuple[str, str]] = set()

    def run(self) -> World:
        """Let it happen.

        Raises:
            Violation: a promise was broken.
        """
        world = self.world
        for agent in self.agents:
            agent.history = self
            world.add(agent)
        for client in self.clients:
            client.history = self
            world.add(client)
        world.unleash()
        world.run(world.faults.heal)
        finished = world.run_until(self.quiet, world.faults.heal + 60)
        world.check(finished, "with faults ended, all is acknowledged and answered", *self.open())
        for agent in self.agents:
            world.check(agent.mailbox.inbox.lost == 0, "nothing acknowledged is lost", agent.name)
        for client in self.clients:
            for to, token in client.asked:
                world.check(
                    token in self.agent(to).durable(), "all that was asked for is there", token
                )
        return world

    def quiet(self) -> bool:
        """Return whether nothing is outstanding."""
        return not self.open()

    def open(self) -> list[str]:
        """Return what is outstanding, in words."""
        out = [f"{c.name} asks" for c in self.clients if not c.up or len(c.asked) < self.requests]
        out += [f"{c.name} waits" for c in self.clients if c.up and len(c.answered) < len(c.asked)]
        members: list[Member] = [*self.agents, *self.clients]
        out += [f"{m.name} is down" for m in members if not m.up]
        out += [f"{m.name}: {n} unacknowledged" for m in members if m.up and (n := m.outstanding())]
        return out

    def agent(self, name: str) -> Agent:
        """Return an agent by name."""
        return next(agent for agent in self.agents if agent.name == name)

    def on_effect(self, agent: Agent, job: Job) -> None:
        """Check an effect that is about to be."""
        check = self.world.check
        check(job.token not in agent.seen, "no effect twice", agent.name, job.token)
        if job.index >= 0:
            client = job.token.partition(".")[0]
            before = [
                int(token.partition(".")[2])
                for token in agent.effects
                if token.startswith(f"{client}.") and (agent.name, token) in self.direct
            ]
            check(not before or max(before) < job.index, "order per sender", agent.name, job.token)
            self.direct.add((agent.name, job.token))
        if job.route:
            durable = self.agent(job.route[0]).durable()
            check(job.token in durable, "what a call's answer says is stored", job.token)

    def on_released(self, agent: str, token: str) -> None:
        """Check a request that its sender forgets."""
        durable = token in self.agent(agent).durable()
        self.world.check(durable, "nothing acknowledged is lost", agent, token)

    def on_answer(self, client: Client, agent: str, token: str) -> None:
        """Check an answer that has come."""
        durable = token in self.agent(agent).durable()
        self.world.check(durable, "what is answered is stored", agent, token)
        self.world.check(token not in client.answered, "no answer twice", client.name, token)
