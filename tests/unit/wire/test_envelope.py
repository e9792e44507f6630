from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import RemoteProtocolError
from isthmus.wire import frames
from isthmus.wire.envelope import Ack, Envelope, Kind, call_id, decode, encode, first_id, size

COUNT = st.integers(0, 2**64 - 1)
POSITIVE = st.integers(1, 2**63)
NAME = st.binary(min_size=1, max_size=255)
ENVELOPES = st.builds(
    Envelope,
    kind=st.integers(1, 127),
    sender=NAME,
    epoch=POSITIVE,
    fresh=st.booleans(),
    seq=POSITIVE,
    behind=COUNT,
    request=COUNT,
    chain=COUNT,
    deadline=COUNT,
    item=COUNT,
    trace=st.none() | st.binary(max_size=25),
    to=st.none() | NAME,
    payload=st.lists(st.binary(max_size=3000), max_size=3).map(tuple),
)
ACKS = st.builds(
    Ack,
    kind=st.just(0),
    by=NAME,
    epoch=POSITIVE,
    fresh=st.booleans(),
    of=COUNT,
    next=POSITIVE,
    open=st.lists(POSITIVE, max_size=4).map(tuple),
    window=POSITIVE,
    to=st.none() | NAME,
)


@given(ENVELOPES | ACKS)
def test_a_message_comes_back_as_it_was(message: Envelope | Ack) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_an_error(data: bytes) -> None:
    try:
        decode([data])
    except RemoteProtocolError:
        pass


@given(ENVELOPES, st.integers(0, 40))
def test_a_cut_message_is_an_error(message: Envelope, keep: int) -> None:
    head = bytes(encode(message)[0])
    with pytest.raises(RemoteProtocolError, match="no message"):
        decode([head[: min(keep, len(head) - 1)]])


def test_no_buffer_is_no_message() -> None:
    with pytest.raises(RemoteProtocolError):
        decode([])


def message(payload: bytes | memoryview, **more: object) -> Envelope:
    return Envelope(
        Kind.REQUEST,
        sender=bytes(range(16)),
        epoch=3,
        fresh=False,
        seq=70_000,
        behind=12,
        request=2**63 + 1,
        deadline=1_800_000_000_000,
        payload=(payload,),
        **more,  # type: ignore[arg-type]
    )


def test_a_large_payload_is_not_copied() -> None:
    data = memoryview(bytearray(1 << 20))
    envelope = message(data)
    _, body = encode(envelope)
    assert body is data
    assert envelope.payload == (data,)
    assert decode(encode(envelope)).payload[0] is data  # type: ignore[union-attr]


def test_a_payload_is_counted_in_bytes_whatever_its_items() -> None:
    assert size((memoryview(b"12345678").cast("d"), b"123", bytearray(2))) == 13


def test_a_small_request_costs_no_more_than_64_bytes_on_the_wire() -> None:
    payload = b"x" * 100
    sent = sum(map(len, frames.encode(encode(message(payload)))))
    assert sent - len(payload) <= 64
    told = Envelope(Kind.TELL, sender=bytes(16), epoch=3, fresh=False, seq=70_000, payload=(b"x",))
    assert len(encode(told)[0]) - 1 == 37
    traced = message(payload, trace=bytes(25), to=bytes(16))
    assert sum(map(len, encode(traced))) - len(payload) <= 112


def test_ids_are_the_same_each_time_and_differ_otherwise() -> None:
    ids = [call_id(parent, index) for parent in (0, 1, 11) for index in range(100)]
    ids += [
        first_id(sender, epoch, n) for sender in (b"a", b"b") for epoch in (1, 2) for n in range(99)
    ]
    assert len(set(ids)) == len(ids)
    assert (call_id(7, 0), first_id(b"a", 1, 0)) == (0x9FA492FDE114A4E3, 0x1F4F5C6D190A0EFA)
    assert all(0 < i < 2**64 for i in ids)
