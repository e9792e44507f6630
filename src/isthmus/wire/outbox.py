"""What a mailbox sends: numbered for each receiver, kept until acknowledged, sent again on a new path."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from isthmus.errors import FullError, RemoteProtocolError
from isthmus.wire.envelope import Ack, Buffer, Envelope, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Outbox"]


class _Link:
    """What there is for one receiver. Unacknowledged are: `holes`, and all from `through` + 1 to `last`."""

    __slots__ = (
        "bytes", "entries", "epoch", "gate", "holes", "last", "moved", "sent", "through", "window"
    )  # fmt: skip

    def __init__(self, window: int) -> None:
        self.entries: dict[int, Envelope] = {}
        self.bytes = 0
        self.last = 0  # the last number given
        self.gate = 0  # the last that may leave
        self.sent = 0  # the last handed out on the present path
        self.through = 0
        self.holes: list[int] = []  # ascending
        self.window = window
        self.epoch = 0  # the receiver's, as far as is known
        self.moved = False


class Outbox:
    """At-least-once sending from one incarnation of a mailbox to any number of others.

    `send` numbers a message and keeps it. `ready` hands out what may leave, in order; `resend` makes it
    start again at the oldest unacknowledged one, because the path is a new one; `acknowledge` releases.

    Args:
        sender: the mailbox's identity.
        epoch: its incarnation, from 1.
        fresh: the numbering begins with this epoch, and ends with it: whoever keeps nothing, or sends what
            no commit covers. Else it goes on where the last incarnation's ended (`restore`).
        gated: what was sent may leave only after `release`, which is called when it has been committed.
        max_messages: how many may wait for one receiver; a slow one does not take the room of others.
        max_bytes: how many bytes of payload may.
        window: how many may be under way to a receiver that has not said how many it takes.
    """

    __slots__ = (
        "_links", "dropped", "epoch", "fresh", "gated", "max_bytes", "max_messages", "met", "new",
        "refused", "sender", "window",
    )  # fmt: skip

    def __init__(
        self,
        sender: bytes,
        epoch: int,
        *,
        fresh: bool = False,
        gated: bool = False,
        max_messages: int = 4096,
        max_bytes: int = 64 << 20,
        window: int = 256,
    ) -> None:
        self.sender = sender
        self.epoch = epoch
        self.fresh = fresh
        self.gated = gated
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.window = window
        self._links: dict[bytes, _Link] = {}
        #: Acknowledgements of superseded incarnations that were refused.
        self.refused = 0
        #: Sent, and released, since these lists were taken last (`gated` only): receiver and message.
        self.new: list[tuple[bytes, Envelope]] = []
        self.dropped: list[tuple[bytes, int]] = []
        #: Receivers met in a new epoch, or forgotten, since this was taken last.
        self.met: dict[bytes, None] = {}

    def send(
        self,
        to: bytes,
        payload: Sequence[Buffer],
        kind: int = 1,
        *,
        request: int = 0,
        chain: int = 0,
        deadline: int = 0,
        item: int = 0,
        trace: bytes | None = None,
    ) -> Envelope:
        """Take charge of a message; the fields are those of `Envelope`.

        Raises:
            FullError: `room` is 0, or the payload does not fit. Nothing was sent: wait until more was
                acknowledged.
        """
        link = self._links.get(to)
        if link is None:
            link = self._links[to] = _Link(self.window)
        payload = tuple(payload)
        length = size(payload)
        if len(link.entries) >= self.max_messages or (
            link.entries and link.bytes + length > self.max_bytes
        ):
            raise FullError(
                f"the outbox for {to.hex()} ({len(link.entries)} messages, {link.bytes} bytes)",
                length,
                "wait until it has acknowledged some, or allow for more (max_messages, max_bytes)",
            )
        link.last = seq = link.last + 1
        link.bytes += length
        link.entries[seq] = envelope = Envelope(
            kind, self.sender, self.epoch, self.fresh, seq, 0, request, chain, deadline, item, trace,
            None, payload,
        )  # fmt: skip
        if self.gated:
            self.new.append((to, envelope))
        else:
            link.gate = seq
        return envelope

    def room(self, to: bytes) -> int:
        """Return how many more messages for a receiver fit, by count."""
        link = self._links.get(to)
        return self.max_messages - (len(link.entries) if link else 0)

    def ready(self, to: bytes) -> list[Envelope]:
        """Return what is to be put on the path to a receiver now, in order; each once a path.

        Encode what you get before you call any other method: the envelopes are the outbox's own.
        """
        link = self._links.get(to)
        if link is None or link.sent >= link.gate:
            return []
        sent, holes, through = link.sent, link.holes, link.through
        room = link.window - bisect_right(holes, sent) - max(0, sent - through)
        if room <= 0:
            return []
        oldest = holes[0] if holes else through + 1
        first = max(sent, through) + 1
        if sent < through:
            numbers: Iterable[int] = [
                *holes[bisect_right(holes, sent) :], *range(first, link.gate + 1)
            ][:room]  # fmt: skip
        else:
            numbers = range(first, min(link.gate, first + room - 1) + 1)
        entries = link.entries
        out = []
        for seq in numbers:
            envelope = entries[seq]
            envelope.behind = seq - oldest
            out.append(envelope)
        if out:
            link.sent = out[-1].seq
            link.moved = True
        return out

    def resend(self, to: bytes) -> None:
        """Start again at the oldest unacknowledged message: the path to this receiver is a new one."""
        link = self._links.get(to)
        if link is not None:
            link.sent = 0

    def tick(self, to: bytes) -> bool:
        """Start again if nothing moved since the last tick though something is under way.

        Call it at intervals well above a round trip, on paths that may lose.

        Returns:
            Whether there is something to be handed out again.
        """
        link = self._links.get(to)
        if link is None or not link.entries:
            return False
        stalled = link.sent > 0 and not link.moved
        link.moved = False
        if stalled:
            link.sent = 0
        return stalled

    def acknowledge(self, ack: Ack) -> list[Envelope]:
        """Release what was handled for good; return it.

        What a superseded incarnation of the receiver acknowledges is refused (counted in `refused`): its
        successor may not have it. An acknowledgement by a newer one begins that one's time.

        Raises:
            RemoteProtocolError: it acknowledges what never left.
        """
        link = self._links.get(ack.by)
        if link is None or ack.fresh != self.fresh or (self.fresh and ack.of != self.epoch):
            return []
        if ack.epoch != link.epoch:
            if ack.epoch < link.epoch:
                self.refused += 1
                return []
            self.meet(ack.by, ack.epoch)
        if ack.next > link.gate + 1:
            raise RemoteProtocolError(
                f"{ack.by.hex()} acknowledges message {ack.next - 1}",
                f"the last one sent to it is {link.gate}; was this mailbox restored from an old copy?",
            )
        link.window = ack.window
        still, after = ack.open, ack.next
        gone: Iterable[int]
        if not link.holes and not still:
            gone = range(link.through + 1, after)
        else:
            kept = set(still)
            mine = [*link.holes, *range(link.through + 1, after)]
            gone = [seq for seq in mine if seq < after and seq not in kept]
            link.holes = [seq for seq in mine if seq >= after or seq in kept]
        released = [link.entries.pop(seq) for seq in gone]
        link.through = max(link.through, after - 1)
        if released:
            link.moved = True
            link.bytes -= sum(size(envelope.payload) for envelope in released)
            if self.gated:
                self.dropped += [(ack.by, envelope.seq) for envelope in released]
        return released

    def meet(self, peer: bytes, epoch: int) -> None:
        """Note the epoch of a receiver: what it has not acknowledged goes to its new incarnation.

        The first that is heard of a receiver is no reason to send again.
        """
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = _Link(self.window)
        if epoch > link.epoch:
            if link.epoch:
                link.sent = 0
            link.epoch = epoch
            if self.gated:
                self.met[peer] = None

    def release(self, marks: Iterable[tuple[bytes, int]]) -> None:
        """Let leave what was committed: receivers, and the last number of each."""
        for to, last in marks:
            if link := self._links.get(to):
                link.gate = last

    def restore(self, to: bytes, last: int, epoch: int, entries: Iterable[Envelope]) -> None:
        """Go on with a numbering: its last number, the receiver's epoch, and what is unacknowledged."""
        link = self._links[to] = _Link(self.window)
        for envelope in entries:
            envelope.epoch = self.epoch
            link.entries[envelope.seq] = envelope
            link.bytes += size(envelope.payload)
        link.holes = sorted(link.entries)
        link.last = link.gate = link.through = last
        link.epoch = epoch

    def state(self, to: bytes) -> tuple[int, int] | None:
        """Return the last number given for a receiver, and its epoch, for `restore`; None if unknown."""
        link = self._links.get(to)
        return (link.last, link.epoch) if link else None

    def unacknowledged(self, to: bytes) -> list[Envelope]:
        """Return what a receiver has not acknowledged, in order."""
        link = self._links.get(to)
        return [link.entries[seq] for seq in sorted(link.entries)] if link else []

    def peers(self) -> list[bytes]:
        """Return every receiver that is known."""
        return list(self._links)

    def forget(self, peer: bytes) -> list[Envelope]:
        """Drop a receiver that will never be back; return what it never acknowledged."""
        lost = self.unacknowledged(peer)
        if self._links.pop(peer, None) and self.gated:
            self.dropped += [(peer, envelope.seq) for envelope in lost]
            self.new = [(to, envelope) for to, envelope in self.new if to != peer]
            self.met[peer] = None
        return lost
