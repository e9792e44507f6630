from __future__ import annotations

import pytest

from isthmus.errors import FullError, RemoteProtocolError
from isthmus.wire.envelope import Ack, Envelope
from isthmus.wire.outbox import Outbox

A, B = b"a", b"b"


def ack(after: int, still: tuple[int, ...] = (), *, epoch: int = 1, window: int = 256) -> Ack:
    return Ack(0, B, epoch, False, 1, after, still, window)


def filled(count: int, **more: int) -> Outbox:
    outbox = Outbox(A, 1, **more)  # type: ignore[arg-type]
    for n in range(count):
        outbox.send(B, [b"%d" % n])
    return outbox


def numbers(envelopes: list[Envelope]) -> list[int]:
    return [envelope.seq for envelope in envelopes]


def test_messages_are_numbered_for_each_receiver_and_handed_out_once() -> None:
    outbox = filled(2)
    assert outbox.send(b"c", [b""]).seq == 1
    assert numbers(outbox.ready(B)) == [1, 2]
    assert outbox.ready(B) == []
    assert outbox.ready(b"nobody") == []
    outbox.send(B, [b""])
    assert numbers(outbox.ready(B)) == [3]


def test_a_new_path_gets_what_is_unacknowledged_and_says_which_is_the_oldest() -> None:
    outbox = filled(6)
    outbox.ready(B)
    released = outbox.acknowledge(ack(6, (2, 4)))
    assert numbers(released) == [1, 3, 5]
    assert outbox.ready(B) == []
    outbox.resend(B)
    again = outbox.ready(B)
    assert [(e.seq, e.seq - e.behind) for e in again] == [(2, 2), (4, 2), (6, 2)]
    assert numbers(outbox.acknowledge(ack(7))) == [2, 4, 6]
    assert outbox.unacknowledged(B) == []


def test_acknowledgements_may_come_late_twice_and_out_of_order() -> None:
    outbox = filled(5)
    outbox.ready(B)
    assert numbers(outbox.acknowledge(ack(5, (3,)))) == [1, 2, 4]
    assert outbox.acknowledge(ack(3)) == []
    assert outbox.acknowledge(ack(5, (1, 2, 3))) == []
    assert numbers(outbox.acknowledge(ack(4))) == [3]
    assert numbers(outbox.acknowledge(ack(6))) == [5]


def test_no_more_than_the_window_is_under_way() -> None:
    outbox = filled(10, window=4)
    assert numbers(outbox.ready(B)) == [1, 2, 3, 4]
    outbox.acknowledge(ack(4, (1,), window=3))
    assert numbers(outbox.ready(B)) == [5]
    outbox.resend(B)
    assert numbers(outbox.ready(B)) == [1, 4, 5]
    outbox.acknowledge(ack(6, window=8))
    assert numbers(outbox.ready(B)) == [6, 7, 8, 9, 10]


def test_a_partly_handed_out_resend_goes_on_where_it_stopped() -> None:
    outbox = filled(8, window=8)
    outbox.ready(B)
    outbox.acknowledge(ack(8, (1, 3, 5, 7), window=2))
    outbox.resend(B)
    assert numbers(outbox.ready(B)) == [1, 3]
    outbox.acknowledge(ack(8, (5, 7), window=2))
    assert numbers(outbox.ready(B)) == [5, 7]
    outbox.acknowledge(ack(8, window=2))
    assert numbers(outbox.ready(B)) == [8]


def test_a_tick_without_progress_starts_again() -> None:
    outbox = filled(2)
    assert not outbox.tick(B)
    outbox.ready(B)
    assert not outbox.tick(B)
    assert outbox.tick(B)
    assert numbers(outbox.ready(B)) == [1, 2]
    outbox.acknowledge(ack(3))
    assert not outbox.tick(B)
    assert not outbox.tick(b"nobody")


def test_a_full_outbox_says_so_and_keeps_what_it_has() -> None:
    outbox = filled(2, max_messages=2)
    assert outbox.room(B) == 0
    with pytest.raises(FullError, match="2 messages"):
        outbox.send(B, [b"x"])
    assert outbox.send(b"c", [b"x"]).seq == 1
    outbox.ready(B)
    outbox.acknowledge(ack(2))
    assert outbox.send(B, [b"x"]).seq == 3


def test_the_bound_in_bytes_lets_one_large_message_through() -> None:
    outbox = Outbox(A, 1, max_bytes=10)
    outbox.send(B, [b"x" * 100])
    with pytest.raises(FullError):
        outbox.send(B, [b"x"])
    outbox.ready(B)
    outbox.acknowledge(ack(2))
    outbox.send(B, [b"x" * 10])


def test_a_superseded_receiver_acknowledges_nothing() -> None:
    outbox = filled(3)
    outbox.ready(B)
    outbox.acknowledge(ack(2, epoch=2))
    assert outbox.acknowledge(ack(4, epoch=1)) == []
    assert outbox.refused == 1
    assert numbers(outbox.unacknowledged(B)) == [2, 3]


def test_a_receivers_new_incarnation_gets_what_the_old_one_did_not_acknowledge() -> None:
    outbox = filled(3)
    outbox.ready(B)
    outbox.acknowledge(ack(2, epoch=1))
    outbox.meet(B, 2)
    assert numbers(outbox.ready(B)) == [2, 3]
    outbox.meet(B, 1)
    assert outbox.ready(B) == []


def test_acknowledging_what_never_left_is_an_error() -> None:
    outbox = filled(1)
    with pytest.raises(RemoteProtocolError, match="old copy"):
        outbox.acknowledge(ack(3))


def test_an_acknowledgement_of_another_numbering_is_not_for_this_one() -> None:
    outbox = Outbox(A, 2, fresh=True)
    outbox.send(B, [b""])
    outbox.ready(B)
    assert outbox.acknowledge(Ack(0, B, 1, True, 1, 2)) == []
    assert outbox.acknowledge(Ack(0, B, 1, False, 2, 2)) == []
    assert numbers(outbox.acknowledge(Ack(0, B, 1, True, 2, 2))) == [1]


def test_what_is_gated_waits_for_its_commit() -> None:
    outbox = Outbox(A, 1, gated=True)
    outbox.send(B, [b"1"])
    outbox.send(B, [b"2"])
    assert outbox.ready(B) == []
    outbox.release([(B, 1)])
    assert numbers(outbox.ready(B)) == [1]


def test_a_forgotten_receiver_returns_what_it_never_took() -> None:
    outbox = filled(2)
    assert numbers(outbox.forget(B)) == [1, 2]
    assert outbox.peers() == []
    assert outbox.forget(B) == []
