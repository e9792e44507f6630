"""Bugs, each planted into a part of the protocols that is right without it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from isthmus.testing.simulator import (
    Agent,
    Client,
    Delivery,
    Faults,
    Hub,
    Leases,
    Migration,
    Replica,
    Storage,
    Sweeper,
)  # fmt: skip
from isthmus.testing.simulator.explore import Scenario
from isthmus.wire.envelope import Ack, Envelope, Kind, Message
from isthmus.wire.lease import LeaseHolder
from isthmus.wire.mailbox import Mailbox


class AckBeforeCommit(Mailbox):
    """Acknowledges what was handled, whether it is stored or not."""

    def done(self, message: Envelope) -> None:
        super().done(message)
        record = self.inbox.record(message.sender, message.fresh)
        if record is not None:
            self.inbox.release([((message.sender, message.fresh), record)])


class ReplyBeforeCommit(Mailbox):
    """Lets an answer leave before what it says is stored."""

    def reply(self, to: Envelope, payload: Any, kind: int = Kind.REPLY) -> Envelope:
        envelope = super().reply(to, payload, kind)
        self.outbox.release([(to.sender, envelope.seq)])
        return envelope


class ForgetsOnRestart(Mailbox):
    """Stores its outbox, not what it has handled."""

    def restore(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        super().restore((key, value) for key, value in items if key[:1] not in (b"i", b"f"))


class AdmitsGaps(Mailbox):
    """Takes what comes, as if what is missing had come."""

    def receive(self, message: Message) -> list[Envelope]:
        if isinstance(message, Envelope):
            stream = self.inbox._streams[message.fresh].get(message.sender)
            if stream and stream.epoch == message.epoch and message.seq > stream.next:
                stream.next = message.seq
        return super().receive(message)


class AdmitsTwice(Mailbox):
    """Takes a message again that it has."""

    def receive(self, message: Message) -> list[Envelope]:
        started = super().receive(message)
        if not started and isinstance(message, Envelope) and message.kind == Kind.REQUEST:
            stream = self.inbox._streams[message.fresh][message.sender]
            if stream.epoch == message.epoch and message.seq == stream.next - 1 and not stream.open:
                return [message]
        return started


class Untiring(Mailbox):
    """Not a bug: sends again on a new path only. What its paths lose by themselves is lost."""

    def tick(self, to: bytes) -> bool:
        return False


class KeepsQuietOnANewPath(Untiring):
    """Takes what left on the old path as arrived."""

    def resend(self, to: bytes) -> None:
        pass


class BelievesStaleAcks(Mailbox):
    """Lets a superseded incarnation acknowledge."""

    def receive(self, message: Message) -> list[Envelope]:
        if isinstance(message, Ack):
            state = self.outbox.state(message.by)
            message = msgspec.structs.replace(
                message, epoch=max(message.epoch, state[1] if state else 1)
            )
        return super().receive(message)


class BelievesStaleReplies(Mailbox):
    """Lets a superseded incarnation answer."""

    def receive(self, message: Message) -> list[Envelope]:
        if isinstance(message, Envelope):
            record = self.inbox.record(message.sender, message.fresh)
            message.epoch = max(message.epoch, record.epoch if record else 1)
        return super().receive(message)


class HastyAnswers(Mailbox):
    """Hands out the answer to a call that may still come again at its receiver."""

    def call(self, parent: Envelope, index: int, to: bytes, payload: Any, **more: Any) -> Any:
        request, early = super().call(parent, index, to, payload, **more)
        self._asked[request].acknowledged = True
        return request, early


class NewIdsOnRepetition(Mailbox):
    """Gives the calls of a repeated handling ids of their own."""

    def call(self, parent: Envelope, index: int, to: bytes, payload: Any, **more: Any) -> Any:
        return super().call(parent, index + self.epoch * 1000, to, payload, **more)


class ForeignClock(Sweeper):
    """Compares the holder's clock with its own."""

    def overdue(self, key: str, leased: Any) -> bool:
        return bool(self.now() > leased.asked + leased.seconds)


class OneLook(Sweeper):
    """Holds against a lease what it saw of one that had the same name."""

    def overdue(self, key: str, leased: Any) -> bool:
        return self.sweeper.look(key, 0, leased.seconds, self.now())


class SweepsBlindly(Storage):
    """Deletes what was renewed since the sweeper looked."""

    def unmoved(self, found: Any, counter: Any) -> bool:
        return True


class RenewsTooLate(LeaseHolder):
    """Renews when the lease has run out."""

    def __init__(self, seconds: float, asked: float) -> None:
        super().__init__(seconds, asked)
        self.every = seconds * 1.3
        self.next = asked + self.every


class ReliesTooLong(LeaseHolder):
    """Relies on its lease until somebody says that it is gone."""

    def holds(self, now: float) -> bool:
        return not self.lost


def delivery(mailbox: type[Mailbox], faults: Faults | None = None) -> Scenario:
    """Return histories of delivery in which everybody has such a mailbox."""
    agent = type("PlantedAgent", (Agent,), {"mailbox_type": mailbox})
    client = type("PlantedClient", (Client,), {"mailbox_type": mailbox})
    planted = type("Planted", (Delivery,), {"agent_type": agent, "client_type": client})
    return lambda seed, given=None: planted(seed, given or faults)


def migration(mailbox: type[Mailbox]) -> Scenario:
    """Return histories of migration in which everybody has such a mailbox."""
    hub = type("PlantedHub", (Hub,), {"mailbox_type": mailbox})
    replica = type("PlantedReplica", (Replica,), {"mailbox_type": mailbox})
    return type("Planted", (Migration,), {"hub_type": hub, "replica_type": replica})


def leases(**types: type) -> Scenario:
    """Return histories of leases with other parts."""
    return type("Planted", (Leases,), {f"{part}_type": kind for part, kind in types.items()})


ONLY_SWITCHES = Faults(switches=4.0, delay=0.1)


class Bug(NamedTuple):
    scenario: Scenario
    #: The scenario without it.
    sound: Scenario
    #: Any one of these is what it breaks.
    promises: tuple[str, ...]
    #: Within how many seeds it must show.
    seeds: int


LOST = "nothing acknowledged is lost"
TWICE = "no effect twice"
ORDER = "order per sender"
STUCK = "with faults ended, all is acknowledged and answered"
UNSTORED = "what is answered is stored"
CALLED = "what a call's answer says is stored"
HELD = "no object is swept that its holder relies on"
KEPT = "who can renew in time keeps its object"

BUGS = {
    "ack before commit": Bug(delivery(AckBeforeCommit), Delivery, (LOST,), 20),
    "reply before commit": Bug(delivery(ReplyBeforeCommit), Delivery, (UNSTORED, CALLED), 20),
    "deduplication forgotten on restart": Bug(
        delivery(ForgetsOnRestart), Delivery, (TWICE, ORDER, "no answer twice"), 100
    ),
    "gap admitted": Bug(delivery(AdmitsGaps), Delivery, (LOST, ORDER, STUCK), 50),
    "duplicate admitted": Bug(delivery(AdmitsTwice), Delivery, (TWICE,), 50),
    "resend dropped on path change": Bug(
        delivery(KeepsQuietOnANewPath, ONLY_SWITCHES),
        delivery(Untiring, ONLY_SWITCHES),
        (STUCK,),
        20,
    ),
    "stale epoch's ack accepted": Bug(migration(BelievesStaleAcks), Migration, (LOST, STUCK), 200),
    "stale epoch's reply accepted": Bug(
        migration(BelievesStaleReplies), Migration, (UNSTORED, TWICE, STUCK), 200
    ),
    "answer before its call is acknowledged": Bug(delivery(HastyAnswers), Delivery, (TWICE,), 3000),
    "call with another id when repeated": Bug(
        delivery(NewIdsOnRepetition), Delivery, (TWICE, STUCK), 200
    ),
    "sweeper trusts a foreign clock": Bug(leases(sweeper=ForeignClock), Leases, (HELD,), 20),
    "sweeper ignores renewals": Bug(
        leases(sweeper=OneLook, storage=SweepsBlindly), Leases, (HELD,), 20
    ),
    "sweep without comparing": Bug(leases(storage=SweepsBlindly), Leases, (HELD, KEPT), 3000),
    "holder renews too late": Bug(leases(holder=RenewsTooLate), Leases, (KEPT,), 50),
    "holder relies too long": Bug(leases(holder=ReliesTooLong), Leases, (HELD,), 50),
}
