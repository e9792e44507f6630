"""What travels between mailboxes: envelopes around opaque payloads, and acknowledgements.

The head of a message is a MessagePack array (msgspec). A small payload lies in it; a large one's buffers
follow it as they are, uncopied. Whom a message is for is known to its path (a topic, a connection's
handshake); where one connection serves several mailboxes, ``to`` says it.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec

from isthmus.errors import RemoteProtocolError

__all__ = ["Ack", "Envelope", "Kind", "Message", "call_id", "decode", "encode", "first_id", "size"]

if TYPE_CHECKING:
    from collections.abc import Sequence

    Buffer: TypeAlias = bytes | bytearray | memoryview
else:
    # What msgspec makes of an inline payload; it knows no union of byte types.
    Buffer = bytes

Count = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[bytes, msgspec.Meta(min_length=1, max_length=255)]

INLINE = 2048
"""Payloads up to this many bytes lie in the head: copying them is cheaper than a piece of its own."""


class Kind(IntEnum):
    """What a message is. Numbers from 16 to 127 are free for what lies above."""

    ACK = 0
    #: Expects no answer.
    TELL = 1
    REQUEST = 2
    #: The answer to a request, and the last message about it.
    REPLY = 3
    #: An answer that is a failure; the last message about its request, too.
    FAILURE = 4
    #: One of many answers, numbered by ``item``; a `REPLY` or `FAILURE` follows the last.
    ITEM = 5


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """One message from one mailbox to another.

    53 bytes around a small payload, for a request with a deadline and a sender of 16 bytes; 37 bytes where
    no answer is expected.
    """

    kind: Annotated[int, msgspec.Meta(ge=1, le=127)]
    #: Identity of the sending mailbox, up to 255 bytes.
    sender: Name
    #: Which incarnation of the sender this is; each new one has a higher number, from 1.
    epoch: Annotated[int, msgspec.Meta(ge=1)]
    #: Whether the sender's numbering began anew with this epoch (what it sends before it commits, or
    #: all it sends if it keeps nothing), rather than going on from its last incarnation's.
    fresh: bool
    #: Position in the sender's numbering for this receiver, from 1, without gaps.
    seq: Annotated[int, msgspec.Meta(ge=1)]
    #: How many numbers before `seq` the oldest unacknowledged one is.
    behind: Count = 0
    #: Which request this is, or is about: 64 bits; 0 for none.
    request: Count = 0
    #: The request at the root of a chain of calls; 0: `request` itself.
    chain: Count = 0
    #: Unix time in milliseconds after which nobody waits for an answer; 0 for none. A hint: no promise
    #: depends on it, since clocks of hosts differ.
    deadline: Count = 0
    #: Which of a request's items, from 0; in its `REPLY`, how many there were.
    item: Count = 0
    #: Trace context: 16 bytes of trace, 8 of span, 1 of flags (W3C trace-context).
    trace: bytes | None = None
    #: Identity of the receiving mailbox, where the path does not tell.
    to: Name | None = None
    payload: tuple[Buffer, ...] = ()

    @property
    def root(self) -> int:
        """The id of the chain that this message belongs to."""
        return self.chain or self.request


class Ack(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """All numbers of a sender below `next` were handled for good, but those in `open`. Cumulative."""

    kind: Annotated[int, msgspec.Meta(ge=0, le=0)]
    #: The mailbox that acknowledges.
    by: Name
    #: Its epoch.
    epoch: Annotated[int, msgspec.Meta(ge=1)]
    #: Which of the sender's numberings this is about: the `fresh` of its envelopes,
    fresh: bool
    #: and their epoch.
    of: Count
    next: Annotated[int, msgspec.Meta(ge=1)]
    open: tuple[int, ...] = ()
    #: How many messages the sender may have under way.
    window: Annotated[int, msgspec.Meta(ge=1)] = 1
    #: Identity of the sender whose messages these are, where the path does not tell.
    to: Name | None = None


Message: TypeAlias = Envelope | Ack

_pack = msgspec.msgpack.Encoder().encode
_envelope = msgspec.msgpack.Decoder(Envelope).decode
_ack = msgspec.msgpack.Decoder(Ack).decode


def encode(message: Message) -> list[Buffer]:
    """Return a message as buffers: its head, and after it a large payload's buffers as they are."""
    if isinstance(message, Ack) or size(message.payload) <= INLINE:
        return [_pack(message)]
    payload, message.payload = message.payload, ()
    try:
        return [_pack(message), *payload]
    finally:
        message.payload = payload


def decode(buffers: Sequence[Buffer]) -> Message:
    """Return the message that these buffers are.

    Raises:
        RemoteProtocolError: they are none.
    """
    try:
        head = buffers[0]
        # The first field, behind the array's own byte: 0 is Kind.ACK.
        if head[1] == 0:
            return _ack(head)
        envelope = _envelope(head)
    except (msgspec.MsgspecError, IndexError) as error:
        raise RemoteProtocolError("a peer sent what is no message", str(error)) from None
    if len(buffers) > 1:
        envelope.payload += tuple(buffers[1:])
    return envelope


def size(payload: Sequence[Buffer]) -> int:
    """Return the bytes of a payload, whatever its buffers' item size."""
    total = 0
    for buffer in payload:
        total += buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
    return total


def first_id(sender: bytes, epoch: int, count: int) -> int:
    """Return the id of a sender's request number `count`, other than any of another epoch's or sender's.

    An id has 64 bits, from a hash: among a million requests under way at once, two agree with a probability
    of 3e-8.
    """
    return _id(sender + b"%d.%d" % (epoch, count))


def call_id(parent: int, index: int) -> int:
    """Return the id of the call number `index` that the handling of request `parent` makes.

    The same whenever the handling is repeated, so that a call's receiver knows that it has seen it.
    """
    return _id(b"%d/%d" % (parent, index))


def _id(text: bytes) -> int:
    # 0 means "none".
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") or 1
