"""What a mailbox receives: admitted in order and once, acknowledged when it was handled for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from isthmus.wire.envelope import Ack, Envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Inbox", "Record"]

UNKNOWN = 0
"""Instead of the next number to admit: the first message says it."""

LISTED = 256
"""How many unfinished numbers an acknowledgement lists; what lies beyond counts as not handled."""


class Record(NamedTuple):
    """What must outlive an inbox, for one numbering of one sender."""

    epoch: int
    #: The next number to admit;
    next: int
    #: those below it that were admitted but are not handled yet, ascending.
    open: tuple[int, ...]


class _Stream:
    """One numbering of one sender."""

    __slots__ = ("due", "epoch", "held", "missing", "next", "open", "stable")

    def __init__(self, record: Record) -> None:
        self.epoch, self.next, unhandled = record
        self.missing = list(unhandled)  # to be admitted (again) before `next`, ascending
        self.open: set[int] = set()
        self.held: dict[int, Envelope] = {}
        self.stable = record
        self.due = False

    def record(self) -> Record:
        return Record(self.epoch, self.next, tuple(sorted([*self.missing, *self.open])))


class Inbox:
    """Admission of messages to one incarnation of a mailbox.

    `receive` returns what may start now: each sender's messages without gaps and in order, on whatever
    paths they come, each once an incarnation. `done` says that one was handled. `acks` says what to tell
    the senders: what was handled *and committed*, when the inbox is `gated`.

    Args:
        owner: the mailbox's identity.
        epoch: its incarnation, from 1.
        gated: what was handled is acknowledged only after `release`.
        window: how many messages a sender may have under way, or being handled.
        max_messages: how many of all senders may be unhandled at once; more are not admitted, and their
            senders told to wait.
        max_held: how many that came before their turn are kept, for each sender; others come again.
        newer: is called with sender and epoch when a sender has a new incarnation.
    """

    __slots__ = (
        "_due", "_streams", "changed", "epoch", "gated", "lost", "max_held", "max_messages", "newer",
        "owner", "refused", "unhandled", "window",
    )  # fmt: skip

    def __init__(
        self,
        owner: bytes,
        epoch: int,
        *,
        gated: bool = False,
        window: int = 256,
        max_messages: int = 65536,
        max_held: int = 64,
        newer: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self.owner = owner
        self.epoch = epoch
        self.gated = gated
        self.window = window
        self.max_messages = max_messages
        self.max_held = max_held
        self.newer = newer
        # Two numberings a sender: what goes on over its epochs, and what began with this one.
        self._streams: tuple[dict[bytes, _Stream], dict[bytes, _Stream]] = ({}, {})
        self._due: dict[tuple[bytes, bool], None] = {}
        #: Messages admitted and not handled yet.
        self.unhandled = 0
        #: Messages of superseded incarnations that were refused.
        self.refused = 0
        #: Messages that a sender says were acknowledged by this mailbox, which does not know them: other
        #: than 0 only if a storage lost what it had committed.
        self.lost = 0
        #: Numberings that changed since this was taken last (`gated` only), in order of change.
        self.changed: dict[tuple[bytes, bool], None] = {}

    def receive(self, envelope: Envelope) -> list[Envelope]:
        """Return what may be handled now, in this order: often the message itself, or nothing."""
        sender, seq = envelope.sender, envelope.seq
        stream = self._streams[envelope.fresh].get(sender)
        if stream is None or envelope.epoch != stream.epoch:
            stream = self._meet(stream, envelope)
            if stream is None:
                return []
        if seq - envelope.behind > stream.next or stream.missing:
            self._forgo(stream, seq - envelope.behind)
        missing, held = stream.missing, stream.held
        if seq != (missing[0] if missing else stream.next):
            if (seq >= stream.next or seq in missing) and len(held) < self.max_held:
                held[seq] = envelope
            self._tell((sender, envelope.fresh), stream)
            return []
        started: list[Envelope] = []
        following: Envelope | None = envelope
        while following is not None:
            if len(stream.open) >= self.window or self.unhandled >= self.max_messages:
                # Not admitted: it comes again, when there may be room.
                self._tell((sender, envelope.fresh), stream)
                break
            if missing:
                del missing[0]
            else:
                stream.next = seq + 1
            stream.open.add(seq)
            self.unhandled += 1
            started.append(following)
            if not held:
                break
            seq = missing[0] if missing else stream.next
            following = held.pop(seq, None)
        return started

    def done(self, envelope: Envelope) -> None:
        """Note that a message was handled: its effects are in the state, its answer in the outbox."""
        stream = self._streams[envelope.fresh].get(envelope.sender)
        if stream is None or envelope.seq not in stream.open:
            return
        if envelope.fresh and envelope.epoch != stream.epoch:
            return  # a number of the sender's last incarnation, which means something else by now
        stream.open.remove(envelope.seq)
        self.unhandled -= 1
        key = (envelope.sender, envelope.fresh)
        if self.gated:
            self.changed[key] = None
        else:
            self._tell(key, stream)

    def acks(self) -> list[tuple[bytes, Ack]]:
        """Return what is to be told to which senders; one message each, however many it is about."""
        out = []
        for sender, fresh in self._due:
            stream = self._streams[fresh].get(sender)
            if stream is None:
                continue
            stream.due = False
            record = stream.stable if self.gated else stream.record()
            after, unhandled = record.next, record.open
            if len(unhandled) > LISTED:
                after, unhandled = unhandled[LISTED], unhandled[:LISTED]
            window = self.window if self.unhandled < self.max_messages else 1
            after = max(after, 1)
            ack = Ack(0, self.owner, self.epoch, fresh, record.epoch, after, unhandled, window)
            out.append((sender, ack))
        self._due.clear()
        return out

    def meet(self, sender: bytes, epoch: int) -> None:
        """Refuse from now on what a sender's earlier incarnations send."""
        if not any(sender in streams for streams in self._streams):
            self._streams[0][sender] = _Stream(Record(epoch, UNKNOWN, ()))
            if self.gated:
                self.changed[sender, False] = None
        for fresh, streams in enumerate(self._streams):
            stream = streams.get(sender)
            if stream is not None and stream.epoch < epoch:
                self._renew(stream, sender, epoch, bool(fresh))

    def record(self, sender: bytes, fresh: bool) -> Record | None:
        """Return what must outlive this inbox about a numbering; None if it was forgotten."""
        stream = self._streams[fresh].get(sender)
        return stream.record() if stream else None

    def release(self, marks: Iterable[tuple[tuple[bytes, bool], Record]]) -> None:
        """Let be acknowledged what was committed."""
        for key, record in marks:
            stream = self._streams[key[1]].get(key[0])
            if stream is not None and (not key[1] or record.epoch == stream.epoch):
                stream.stable = record
                self._tell(key, stream)

    def restore(self, sender: bytes, fresh: bool, record: Record) -> None:
        """Go on with a numbering. What was not handled is admitted again when it comes again."""
        stream = self._streams[fresh][sender] = _Stream(record)
        self._tell((sender, fresh), stream)

    def senders(self) -> list[bytes]:
        """Return every sender that is known."""
        return list({**self._streams[0], **self._streams[1]})

    def forget(self, sender: bytes) -> None:
        """Drop a sender that will never be back."""
        for fresh, streams in enumerate(self._streams):
            stream = streams.pop(sender, None)
            if stream is not None:
                self.unhandled -= len(stream.open)
                if self.gated:
                    self.changed[sender, bool(fresh)] = None

    def _tell(self, key: tuple[bytes, bool], stream: _Stream) -> None:
        if not stream.due:
            stream.due = True
            self._due[key] = None

    def _meet(self, stream: _Stream | None, envelope: Envelope) -> _Stream | None:
        """Return the stream of a sender's new incarnation; None if a superseded one sends."""
        sender, epoch, fresh = envelope.sender, envelope.epoch, envelope.fresh
        other = self._streams[not fresh].get(sender)
        known = max(stream.epoch if stream else 0, other.epoch if other else 0)
        if epoch < known:
            self.refused += 1
            return None
        if stream is None:
            oldest = envelope.seq - envelope.behind
            stream = self._streams[fresh][sender] = _Stream(Record(epoch, oldest, ()))
            if self.gated:
                self.changed[sender, fresh] = None
        else:
            self._renew(stream, sender, epoch, fresh)
        self._tell((sender, fresh), stream)
        if epoch > known:
            if other is not None:
                self._renew(other, sender, epoch, not fresh)
            if self.newer is not None:
                self.newer(sender, epoch)
        return stream

    def _renew(self, stream: _Stream, sender: bytes, epoch: int, fresh: bool) -> None:
        stream.epoch = epoch
        # What a superseded incarnation numbered beyond what was admitted may have been sent before its
        # commit failed; its successor gives those numbers to messages of its own.
        stream.held.clear()
        if fresh:
            self.unhandled -= len(stream.open)
            stream.open.clear()
            stream.missing.clear()
            stream.next = 1
            stream.stable = stream.record()
        if self.gated:
            self.changed[sender, fresh] = None

    def _forgo(self, stream: _Stream, oldest: int) -> None:
        """Go on at the oldest message that the sender still has."""
        while stream.missing and stream.missing[0] < oldest:
            del stream.missing[0]
            self.lost += 1
        if oldest > stream.next:
            self.lost += oldest - stream.next if stream.next != UNKNOWN else 0
            stream.next = oldest
            for seq in [seq for seq in stream.held if seq < oldest]:
                del stream.held[seq]
