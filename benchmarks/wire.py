"""Messages between mailboxes: what the pure protocols cost for each, without any transport (TARGETS 5)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, at_most
from benchmarks.run import main

TITLE = "Messages (TARGETS 5)"

ENVELOPE = """
from isthmus.wire.envelope import Envelope, Kind, decode, encode
envelope = Envelope(Kind.REQUEST, bytes(range(16)), 3, False, 70_000, 12, 2**63 + 1,
                    deadline=1_800_000_000_000, payload=(b"x" * 100,))
"""
# What a dictionary of the same fields costs.
MSGPACK = """
import msgspec
fields = {"kind": 2, "sender": bytes(range(16)), "epoch": 3, "seq": 70_000, "request": 2**63 + 1,
          "deadline": 1_800_000_000_000, "payload": b"x" * 100}
pack, unpack = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode
"""
# Requests there, replies back, each acknowledged, a hundred at a time; every message is counted.
MAILBOX = """
from isthmus.wire.envelope import Kind
from isthmus.wire.mailbox import Mailbox
one, other = (Mailbox(name, 1, durable={durable}) for name in (b"o" * 16, b"t" * 16))
payload, number = (b"x" * 100,), 0
def exchange():
    global number
    for _ in range(100):
        number += 1
        one.outbox.send(other.identity, payload, Kind.REQUEST, request=number)
    if {durable}:
        one.committed(one.changes())
    for envelope in one.ready(other.identity):
        for request in other.receive(envelope):
            other.reply(request, payload)
            other.done(request)
    if {durable}:
        other.committed(other.changes())
    for envelope in other.ready(one.identity):
        for reply in one.receive(envelope):
            one.done(reply)
    for _, ack in other.acks():
        one.receive(ack)
    if {durable}:
        one.committed(one.changes())
    for _, ack in one.acks():
        other.receive(ack)
"""


def cases(quick: bool) -> Iterable[Case]:
    """Return the section's cases."""
    yield Case(
        "envelope, encode + decode, 100 B",
        Code("decode(encode(envelope))", ENVELOPE),
        {"msgspec, a dict": Code("unpack(pack(fields))", MSGPACK)},
        [at_most(5)],
    )
    for durable, label in ((False, "nothing kept"), (True, "changes to be stored")):
        yield Case(
            f"mailboxes, 200 messages sent, admitted, acknowledged, {label}",
            Code("exchange()", MAILBOX.format(durable=durable)),
            targets=[at_most(2000)],
        )


if __name__ == "__main__":
    raise SystemExit(main(["wire"]))
