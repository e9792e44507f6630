from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isthmus.wire.envelope import Envelope
from isthmus.wire.inbox import LISTED, Inbox, Record

A, B = b"a", b"b"


def message(seq: int, *, epoch: int = 1, oldest: int = 1, fresh: bool = False) -> Envelope:
    return Envelope(1, A, epoch, fresh, seq, seq - oldest)


def take(inbox: Inbox, *seqs: int, **more: int) -> list[int]:
    return [e.seq for seq in seqs for e in inbox.receive(message(seq, **more))]  # type: ignore[arg-type]


def told(inbox: Inbox) -> list[tuple[int, tuple[int, ...], int]]:
    return [(ack.next, ack.open, ack.window) for _, ack in inbox.acks()]


@given(st.lists(st.integers(1, 12), max_size=60))
def test_whatever_comes_starts_in_order_and_once(seqs: list[int]) -> None:
    inbox = Inbox(B, 1)
    started = take(inbox, *seqs)
    assert started == list(range(1, len(started) + 1))
    assert set(seqs) - set(started) <= set(range(len(started) + 2, 13))


def test_a_gap_holds_back_what_follows_and_is_told() -> None:
    inbox = Inbox(B, 1)
    assert take(inbox, 1, 3, 4) == [1]
    assert told(inbox) == [(2, (1,), 256)]
    assert take(inbox, 2) == [2, 3, 4]


def test_what_came_too_early_is_kept_up_to_a_bound() -> None:
    inbox = Inbox(B, 1, max_held=2)
    assert take(inbox, 3, 4, 5, 1, 2) == [1, 2, 3, 4]
    assert take(inbox, 5) == [5]


def test_what_is_done_is_acknowledged_whatever_the_order() -> None:
    inbox = Inbox(B, 1)
    first, second, third = (inbox.receive(message(n))[0] for n in (1, 2, 3))
    inbox.acks()
    inbox.done(third)
    inbox.done(first)
    inbox.done(first)
    assert told(inbox) == [(4, (2,), 256)]
    assert inbox.acks() == []
    inbox.done(second)
    assert told(inbox) == [(4, (), 256)]
    assert inbox.unhandled == 0


def test_a_repetition_is_acknowledged_again_and_not_admitted() -> None:
    inbox = Inbox(B, 1)
    inbox.done(*inbox.receive(message(1)))
    inbox.acks()
    assert take(inbox, 1) == []
    assert told(inbox) == [(2, (), 256)]


def test_a_long_list_of_unfinished_ones_is_cut() -> None:
    inbox = Inbox(B, 1, window=1000)
    take(inbox, *range(1, LISTED + 100))
    ((after, still, _),) = told(inbox)
    assert (after, len(still)) == (LISTED + 1, LISTED)


def test_a_full_inbox_admits_nothing_and_tells_senders_to_wait() -> None:
    inbox = Inbox(B, 1, max_messages=2)
    one, _ = inbox.receive(message(1)) + inbox.receive(message(2))
    assert take(inbox, 3) == []
    assert told(inbox) == [(3, (1, 2), 1)]
    inbox.done(one)
    assert told(inbox) == [(3, (2,), 256)]
    assert take(inbox, 3) == [3]


def test_a_sender_has_a_window() -> None:
    inbox = Inbox(B, 1, window=2)
    assert take(inbox, 1, 2, 3) == [1, 2]


def test_a_superseded_sender_is_refused_on_both_numberings() -> None:
    inbox = Inbox(B, 1)
    assert take(inbox, 1) == [1]
    assert [e.seq for e in inbox.receive(message(1, epoch=2, fresh=True))] == [1]
    assert take(inbox, 2) == []
    assert inbox.refused == 1
    assert take(inbox, 1, 2, epoch=2) == [2]


def test_a_fresh_numbering_begins_anew_with_each_epoch() -> None:
    inbox = Inbox(B, 1)
    old = inbox.receive(message(1, fresh=True))[0]
    assert [e.epoch for e in inbox.receive(message(1, epoch=2, fresh=True))] == [2]
    assert inbox.unhandled == 1
    inbox.done(old)  # means another message by now
    assert inbox.record(A, True) == Record(2, 2, (1,))


def test_what_was_held_back_of_a_superseded_sender_is_dropped() -> None:
    inbox = Inbox(B, 1)
    assert take(inbox, 1, 3) == [1]
    assert take(inbox, 2, epoch=2) == [2]
    assert take(inbox, 3, epoch=2) == [3]


def test_epochs_can_be_told_before_anything_comes() -> None:
    inbox = Inbox(B, 1)
    inbox.meet(A, 3)
    assert take(inbox, 1, epoch=2) == []
    assert take(inbox, 5, epoch=3, oldest=5) == [5]
    assert inbox.lost == 0


def test_an_inbox_that_knows_nothing_begins_at_the_oldest_that_there_is() -> None:
    inbox = Inbox(B, 1)
    assert take(inbox, 9, oldest=8) == []
    assert take(inbox, 8, oldest=8) == [8, 9]
    assert inbox.lost == 0


def test_what_a_storage_lost_is_counted() -> None:
    inbox = Inbox(B, 2)
    inbox.restore(A, False, Record(1, 5, (3,)))
    assert take(inbox, 8, oldest=8) == [8]
    assert inbox.lost == 4  # 3, 5, 6, 7


def test_a_restored_inbox_admits_again_what_was_not_handled() -> None:
    inbox = Inbox(B, 2, gated=True)
    inbox.restore(A, False, Record(1, 6, (2, 4)))
    assert told(inbox) == [(6, (2, 4), 256)]
    assert take(inbox, 1, 3, 5) == []
    assert take(inbox, 4, 6, 2) == [2, 4, 6]
    assert inbox.record(A, False) == Record(1, 7, (2, 4, 6))


def test_what_is_gated_is_acknowledged_after_its_commit() -> None:
    inbox = Inbox(B, 1, gated=True)
    inbox.done(*inbox.receive(message(1)))
    assert told(inbox) == [(1, (), 256)]
    record = inbox.record(A, False)
    assert record == Record(1, 2, ())
    inbox.release([((A, False), record)])
    assert told(inbox) == [(2, (), 256)]


def test_a_forgotten_sender_takes_its_messages_with_it() -> None:
    inbox = Inbox(B, 1)
    (one,) = inbox.receive(message(1))
    inbox.forget(A)
    assert (inbox.unhandled, inbox.senders(), inbox.acks()) == (0, [], [])
    inbox.done(one)
    assert inbox.record(A, False) is None
