"""A node with a mailbox: the glue that every user of `isthmus.wire.mailbox` writes, without I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.testing.simulator.world import Node
from isthmus.wire.envelope import Buffer, Envelope, decode, encode
from isthmus.wire.mailbox import Changes, Mailbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.testing.simulator.disk import Disk

__all__ = ["TICK", "Member"]

TICK = 0.25
"""Seconds between looks whether anything has moved; above most round trips."""


class Member(Node):
    """A mailbox, its disk if it is durable, and its paths to others.

    A subclass says what handling a message does (`handle`), what its state is (`save_state`,
    `load_state`), and calls `commit` when it has changed.
    """

    mailbox_type = Mailbox

    def __init__(self, name: str, *, disk: Disk | None, window: int = 4) -> None:
        super().__init__(name)
        self.disk = disk
        self.window = window
        self.identity = name.encode()
        self.epoch = 0

    def handle(self, envelope: Envelope) -> None:
        """Begin to handle a message."""
        raise NotImplementedError

    def load_state(self, stored: object) -> None:
        """Take up what `save_state` returned and a commit stored; None if nothing ever was."""

    def save_state(self) -> object:
        """Return the state, as a value of its own."""

    def on_start(self) -> None:
        """Open the disk, and go on where the last incarnation had committed."""
        self.epoch = self.disk.open() if self.disk else self.epoch + 1
        self.mailbox = self.mailbox_type(
            self.identity, self.epoch, durable=self.disk is not None, window=self.window
        )
        self.committing = self.changed = False
        if self.disk:
            table = self.disk.table
            self.mailbox.restore(
                (key[1:], value) for key, value in table.items() if key[:1] == b"m"
            )
            self.load_state(table.get(b"state"))
        else:
            self.load_state(None)
        self.flush()
        self.timer(TICK, "tick")

    def on_message(self, source: str, data: Sequence[Buffer], path: str) -> None:
        """Decode, admit, handle, answer."""
        message = decode(data)
        kind = "ack" if not isinstance(message, Envelope) else message.kind
        number = message.seq if isinstance(message, Envelope) else message.next
        self.note("gets", source, path, kind, message.epoch, number, message.fresh)
        for envelope in self.mailbox.receive(message):
            self.handle(envelope)
        self.flush()

    def on_timer(self, name: str) -> None:
        """Send again what has not moved."""
        for peer in self.peers():
            self.mailbox.tick(peer)
        self.mailbox.expire(int(self.world.now * 1000))
        if self.mailbox.unsaved:
            self.commit()
        self.flush()
        self.timer(TICK, "tick")

    def on_path(self, peer: str) -> None:
        """Send what is unacknowledged, on the new path."""
        self.mailbox.resend(peer.encode())
        self.flush()

    def commit(self) -> None:
        """Store the state with the mailbox's changes; what happens meanwhile is for the next commit."""
        self.changed = True
        if self.committing or not self.disk:
            return
        self.changed, self.committing = False, True
        changes = self.mailbox.changes()
        puts = {b"m" + key: value for key, value in changes.puts.items()}
        drops = [b"m" + key for key in changes.drops]
        self.disk.commit(
            self,
            self.epoch,
            {**puts, b"state": self.save_state()},
            drops,
            lambda: self.committed(changes),
        )

    def committed(self, changes: Changes) -> None:
        """Let out what was stored."""
        self.note("committed", len(changes.puts))
        self.mailbox.committed(changes)
        self.committing = False
        if self.changed:
            self.commit()
        self.flush()

    def flush(self) -> None:
        """Put on the paths whatever may leave."""
        for peer in self.peers():
            for envelope in self.mailbox.ready(peer):
                self.put(peer, encode(envelope))
        for peer, ack in self.mailbox.acks():
            self.put(peer, encode(ack))

    def put(self, peer: bytes, data: Sequence[Buffer]) -> None:
        """Send to the node that has a mailbox."""
        self.send(peer.decode(), data)

    def peers(self) -> list[bytes]:
        """Return all that this mailbox has sent to."""
        return list(dict.fromkeys([*self.mailbox.outbox.peers(), *self.mailbox.calls.peers()]))

    def outstanding(self) -> int:
        """Return how many messages are not acknowledged."""
        boxes = {id(box): box for box in (self.mailbox.outbox, self.mailbox.calls)}.values()
        return sum(len(box.unacknowledged(peer)) for box in boxes for peer in box.peers())
