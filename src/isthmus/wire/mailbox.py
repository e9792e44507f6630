"""A mailbox: an inbox, an outbox, and the one commit that makes effects happen once.

The order of things, for a mailbox that keeps its state::

    message -> receive() -> handled, state changed, reply() -> done()
                                                                 |  for as many messages as you like
    changes() -> stored in one transaction with the state -> committed() -> acks() and outbox.ready() leave

If the process dies before the transaction, nothing has happened: no answer left, nothing was acknowledged,
and the message comes again. If it dies after it, the message that comes again is known, and the answer
that nobody acknowledged is sent again. What no transaction covers, the handling of a message must not do
twice by itself.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from isthmus.errors import LocalProtocolError
from isthmus.wire.envelope import Ack, Buffer, Envelope, Kind, Message, call_id
from isthmus.wire.inbox import Inbox, Record
from isthmus.wire.outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Changes", "Inbox", "Mailbox", "Outbox"]

_pack = msgspec.msgpack.Encoder().encode
_record = msgspec.msgpack.Decoder(Record).decode
_link = msgspec.msgpack.Decoder(tuple[int, int]).decode
_envelope = msgspec.msgpack.Decoder(Envelope).decode


class Changes(NamedTuple):
    """What to store since the last time, as entries of a table of bytes by bytes."""

    puts: dict[bytes, bytes]
    drops: list[bytes]
    #: For `Mailbox.committed`.
    admitted: list[tuple[tuple[bytes, bool], Record]]
    sent: list[tuple[bytes, int]]


class _Call:
    """A call made by what is being handled."""

    __slots__ = ("acknowledged", "answers", "parent")

    def __init__(self, parent: Envelope, answers: list[Envelope]) -> None:
        self.parent: Envelope | None = parent  # None: it was handled without waiting for the answer
        self.answers = answers
        # The call may come again until it is: were its answer acknowledged before, its receiver, which then
        # forgets that it answered, would do it all again.
        self.acknowledged = False

    def final(self) -> Envelope | None:
        """Return the answer, if it has come."""
        return self.answers[-1] if self.answers else None


class Mailbox:
    """One incarnation of a mailbox.

    Args:
        identity: the mailbox's identity, 1 to 255 bytes.
        epoch: its incarnation, from 1: one more than that of any before it. Whoever gives out epochs also
            has the storage refuse, from then on, what an earlier incarnation wants to store.
        durable: its state outlives it. Else nothing is kept, nothing waits for a commit, and its numbering
            begins with it: a client, or an agent without state.
        window: see `Inbox`; and what others are taken to allow, until they have said.
        max_messages: for the outbox, see `Outbox`.
        max_bytes: likewise.
    """

    __slots__ = (
        "_answers", "_asked", "_calls_of", "_early", "_running", "calls", "durable",
        "epoch", "identity", "inbox", "outbox",
    )  # fmt: skip

    def __init__(
        self,
        identity: bytes,
        epoch: int,
        *,
        durable: bool,
        window: int = 256,
        max_messages: int = 4096,
        max_bytes: int = 64 << 20,
    ) -> None:
        self.identity = identity
        self.epoch = epoch
        self.durable = durable
        self.inbox = Inbox(identity, epoch, gated=durable, window=window, newer=self._newer)
        outbox = partial(
            Outbox, identity, epoch, max_messages=max_messages, max_bytes=max_bytes, window=window
        )
        #: What is sent here leaves after the commit, if there is one.
        self.outbox = outbox(fresh=not durable, gated=durable)
        #: What is sent here leaves at once: calls whose answers are needed before the commit, items.
        self.calls = outbox(fresh=True) if durable else self.outbox
        # Requests being handled, by sender and id: the messages that asked, of which the first is handled.
        self._running: dict[tuple[bytes, int], list[Envelope]] = {}
        # Requests whose answer is in the outbox, unacknowledged: number of the answer.
        self._answers: dict[tuple[bytes, int], int] = {}
        # Calls made by what is being handled, by id.
        self._asked: dict[int, _Call] = {}
        # Answers to calls that nothing here has made yet: an earlier incarnation did.
        self._early: dict[int, list[Envelope]] = {}
        # Ids of the calls made in handling a message, to be cleared with it.
        self._calls_of: dict[tuple[bytes, int], list[int]] = {}

    def receive(self, message: Message) -> list[Envelope]:
        """Take what a path brought; return what is to be handled now, in this order.

        A request that is being handled already, or whose answer waits to be acknowledged, is not returned
        again; neither is the answer to a call that nobody has made yet (`call` returns it). The last answer
        to a call is returned when the call is acknowledged too, so send `acks` along with answers.
        """
        if isinstance(message, Ack):
            return self._acknowledged(message)
        started = self.inbox.receive(message)
        return [envelope for envelope in started if self._starts(envelope)]

    def reply(
        self, to: Envelope, payload: Sequence[Buffer], kind: int = Kind.REPLY, *, items: int = 0
    ) -> Envelope:
        """Answer a request; to be followed by `done`, before the next commit.

        Args:
            to: the request.
            payload: the answer.
            kind: `Kind.REPLY` or `Kind.FAILURE`.
            items: how many items were sent before, so that who missed some notices.

        Raises:
            FullError: see `Outbox.send`. Ask for `room` before you begin.
        """
        nested = to.chain != 0
        envelope = self.outbox.send(
            to.sender, payload, kind, request=to.request, chain=to.chain,
            deadline=to.deadline if nested else 0, item=items, trace=to.trace,
        )  # fmt: skip
        if to.request:
            self._answers[to.sender, to.request] = envelope.seq
        return envelope

    def send_item(self, to: Envelope, item: int, payload: Sequence[Buffer]) -> Envelope:
        """Send item number `item`, from 0, of the many that answer a request; it leaves at once."""
        return self.calls.send(
            to.sender,
            payload,
            Kind.ITEM,
            request=to.request,
            chain=to.chain,
            item=item,
            trace=to.trace,
        )

    def call(
        self,
        parent: Envelope,
        index: int,
        to: bytes,
        payload: Sequence[Buffer],
        *,
        deadline: int = 0,
    ) -> tuple[int, list[Envelope]]:
        """Make call number `index` of the handling of `parent`; it leaves at once.

        Its id comes from `parent` and `index`: a handling that is repeated must make the same calls under
        the same numbers, and its calls' receivers answer what they have answered already.

        Returns:
            The call's id, and the answers that are here already: an earlier incarnation asked.

        Raises:
            LocalProtocolError: the parent has no id, or made a call of this number before.
            FullError: see `Outbox.send`.
        """
        request = call_id(parent.request, index)
        if not parent.request or request in self._asked:
            why = "made before" if parent.request else "of a message without a request id"
            raise LocalProtocolError(f"call {index}", f"{why}; give each call an id of its own")
        early = self._early.get(request, [])
        if not early:
            self.calls.send(
                to, payload, Kind.REQUEST, request=request, chain=parent.root,
                deadline=deadline or parent.deadline, trace=parent.trace,
            )  # fmt: skip
        self._early.pop(request, None)
        self._asked[request] = call = _Call(parent, list(early))
        call.acknowledged = bool(early)
        self._calls_of.setdefault((parent.sender, parent.request), []).append(request)
        return request, early

    def done(self, message: Envelope) -> None:
        """Note that a message was handled, with the answers to the calls that this made."""
        key = (message.sender, message.request)
        for asked in self._running.pop(key, [message]):
            self.inbox.done(asked)
        for request in self._calls_of.pop(key, ()):
            if call := self._asked.get(request):
                call.parent = None
                self._over(request, call)
        if self._early and message.kind == Kind.REQUEST:
            self._drop_early(message.root)

    @property
    def unsaved(self) -> bool:
        """Whether `changes` would return something."""
        outbox = self.outbox
        return bool(outbox.new or outbox.dropped or outbox.met or self.inbox.changed)

    def changes(self) -> Changes:
        """Return what to store now. Until `committed` is called with it, what it holds does not leave.

        To be stored together with the state as the messages that are `done` made it, without what a
        handling that is not done yet may have changed. Whoever takes long streams commits now and then.

        If storing fails, for whatever reason, this mailbox is over: make another one from the storage, with
        a higher epoch.
        """
        puts: dict[bytes, bytes] = {}
        drops: list[bytes] = []
        touched = dict(self.outbox.met)
        sent: dict[bytes, int] = {}
        for to, envelope in self.outbox.new:
            puts[_entry(to, envelope.seq)] = _pack(envelope)
            sent[to] = envelope.seq
        touched |= dict.fromkeys(sent)
        # A numbering that was forgotten may have begun anew.
        drops += [k for k in (_entry(to, seq) for to, seq in self.outbox.dropped) if k not in puts]
        for to in touched:
            state = self.outbox.state(to)
            if state is None:
                drops.append(b"l" + to)
            else:
                puts[b"l" + to] = _pack(state)
        admitted = []
        for sender, fresh in self.inbox.changed:
            record = self.inbox.record(sender, fresh)
            key = (b"f" if fresh else b"i") + sender
            if record is None:
                drops.append(key)
            else:
                puts[key] = _pack(record)
                admitted.append(((sender, fresh), record))
        self.outbox.new, self.outbox.dropped = [], []
        self.outbox.met.clear()
        self.inbox.changed.clear()
        return Changes(puts, drops, admitted, list(sent.items()))

    def committed(self, changes: Changes) -> None:
        """Let leave what `changes` said and is stored by now; in the order in which they were taken."""
        self.outbox.release(changes.sent)
        self.inbox.release(changes.admitted)

    def restore(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Go on from what the last incarnation stored: the entries put by `changes` and not dropped."""
        links: dict[bytes, tuple[int, int]] = {}
        entries: dict[bytes, list[Envelope]] = {}
        for key, value in items:
            sort, name = key[:1], key[1:]
            if sort == b"l":
                links[name] = _link(value)
            elif sort == b"o":
                entries.setdefault(name[:-8], []).append(_envelope(value))
            else:
                self.inbox.restore(name, sort == b"f", _record(value))
        for to, (last, epoch) in links.items():
            kept = entries.get(to, [])
            self.outbox.restore(to, last, epoch, kept)
            self.calls.meet(to, epoch)
            for envelope in kept:
                if envelope.request and envelope.kind in (Kind.REPLY, Kind.FAILURE):
                    self._answers[to, envelope.request] = envelope.seq

    def ready(self, to: bytes) -> list[Envelope]:
        """Return what may be put on the path to `to` now; see `Outbox.ready`."""
        out = self.outbox.ready(to)
        return out + self.calls.ready(to) if self.durable else out

    def resend(self, to: bytes) -> None:
        """Start again with what `to` has not acknowledged: the path to it is a new one."""
        self.outbox.resend(to)
        if self.durable:
            self.calls.resend(to)

    def tick(self, to: bytes) -> bool:
        """See `Outbox.tick`."""
        stalled = self.outbox.tick(to)
        return self.calls.tick(to) or stalled if self.durable else stalled

    def acks(self) -> list[tuple[bytes, Ack]]:
        """Return what is to be told to which senders; see `Inbox.acks`."""
        return self.inbox.acks()

    def meet(self, peer: bytes, epoch: int) -> None:
        """Refuse from now on whatever earlier incarnations of a peer send or acknowledge."""
        self.inbox.meet(peer, epoch)
        self._newer(peer, epoch)
        self.resend(peer)

    def expire(self, now: int) -> None:
        """Drop answers to calls that nothing here has made, once their deadline (ms) is past.

        Such an answer stays when the handling that wanted it is never repeated, because its own sender is
        gone and forgot. Call it now and then, and commit if there is something `unsaved`.
        """
        for request, answers in list(self._early.items()):
            if any(0 < answer.deadline <= now for answer in answers):
                for answer in self._early.pop(request):
                    self.inbox.done(answer)

    def forget(self, peer: bytes) -> list[Envelope]:
        """Drop all that concerns a peer that will never be back; return what it never acknowledged."""
        lost = self.outbox.forget(peer)
        if self.durable:
            lost += self.calls.forget(peer)
        self.inbox.forget(peer)
        for envelope in lost:
            self._answers.pop((peer, envelope.request), None)
            self._asked.pop(envelope.request, None)
        return lost

    def _starts(self, envelope: Envelope) -> bool:
        """Return whether an admitted message is to be handled, or is a repetition, or too early."""
        request = envelope.request
        if not request:
            return True
        if envelope.kind == Kind.REQUEST:
            key = (envelope.sender, request)
            running = self._running.get(key)
            if running is not None:
                running.append(envelope)
            elif key in self._answers:
                self.inbox.done(envelope)
            else:
                self._running[key] = [envelope]
                return True
            return False
        if envelope.chain and Kind.REPLY <= envelope.kind <= Kind.ITEM:
            call = self._asked.get(request)
            if envelope.kind == Kind.ITEM:
                # Kept for no repetition, which would begin with another one: so it takes no room.
                self.inbox.done(envelope)
                return call is not None and call.parent is not None
            if call is None:
                self._early.setdefault(request, []).append(envelope)
                return False
            call.answers.append(envelope)
            if call.parent is None:
                self._over(request, call)
                return False
            return call.acknowledged
        return True

    def _acknowledged(self, ack: Ack) -> list[Envelope]:
        """Release what was acknowledged; return the answers that waited for it."""
        started = []
        box = self.calls if ack.fresh else self.outbox
        for released in box.acknowledge(ack):
            if released.kind == Kind.REPLY or released.kind == Kind.FAILURE:
                # What an earlier incarnation asked must not be answered anew.
                self.inbox.meet(ack.by, ack.epoch)
                self._answers.pop((ack.by, released.request), None)
            elif released.kind == Kind.REQUEST and (call := self._asked.get(released.request)):
                call.acknowledged = True
                if call.parent is None:
                    self._over(released.request, call)
                elif answer := call.final():
                    started.append(answer)
        return started

    def _over(self, request: int, call: _Call) -> None:
        """Have the answers to a call acknowledged whose parent is done."""
        if call.acknowledged and call.final():
            del self._asked[request]
            for answer in call.answers:
                self.inbox.done(answer)

    def _drop_early(self, root: int) -> None:
        """Drop what was asked by an earlier incarnation in a chain that nothing here handles any more."""
        if any(asked[0].root == root for asked in self._running.values()):
            return
        for request, answers in list(self._early.items()):
            if answers[0].root == root:
                for answer in self._early.pop(request):
                    self.inbox.done(answer)

    def _newer(self, peer: bytes, epoch: int) -> None:
        self.outbox.meet(peer, epoch)
        if self.durable:
            self.calls.meet(peer, epoch)


def _entry(to: bytes, seq: int) -> bytes:
    return b"o" + to + seq.to_bytes(8, "big")
