from __future__ import annotations

import pytest

from isthmus.errors import SpecError
from isthmus.wire.lease import LeaseHolder, LeaseSweeper, Observation, judge


def test_a_holder_renews_at_a_third_and_counts_from_its_asking() -> None:
    holder = LeaseHolder(30, asked=100)
    assert not holder.due(109.9)
    assert holder.holds(126.9)
    assert not holder.holds(127)
    assert holder.due(111)
    holder.granted(111)
    assert holder.until == 111 + 27
    assert holder.next == 121


def test_an_unanswered_renewal_is_repeated_before_the_lease_ends() -> None:
    holder = LeaseHolder(30, asked=0)
    sent = [tenth / 10 for tenth in range(300) if holder.due(tenth / 10)]
    assert sent[0] == 10
    assert len([s for s in sent if s < holder.until]) >= 4


def test_late_and_repeated_answers_change_nothing() -> None:
    holder = LeaseHolder(30, asked=0)
    holder.granted(20)
    holder.granted(10)
    holder.granted(20)
    assert (holder.until, holder.next) == (47, 30)


def test_what_is_refused_is_lost_for_good() -> None:
    holder = LeaseHolder(30, asked=0)
    holder.refused(4)
    holder.granted(5)
    assert not holder.holds(6)
    assert not holder.due(1000)


def test_a_refusal_that_a_grant_overtook_is_void() -> None:
    holder = LeaseHolder(30, asked=0)
    holder.granted(12)
    holder.refused(11)
    assert holder.holds(13)
    assert holder.due(22)


@pytest.mark.parametrize(("every", "margin"), [(30, 0), (20, 10), (0, 1), (1, -1)])
def test_a_lease_that_would_run_out_is_refused(every: float, margin: float) -> None:
    with pytest.raises(SpecError, match="lease"):
        LeaseHolder(30, 0, every=every, margin=margin)


def test_a_first_look_never_condemns() -> None:
    assert judge(None, 7, 10, now=1e9) == (Observation(7, 1e9), False)


def test_a_counter_that_stood_still_for_the_period_is_overdue() -> None:
    sweeper = LeaseSweeper[str]()
    assert not sweeper.look("a", 1, 10, now=0)
    assert not sweeper.look("a", 1, 10, now=9.9)
    assert sweeper.look("a", 1, 10, now=10)
    assert not sweeper.look("a", 2, 10, now=11)  # renewed after all
    assert not sweeper.look("a", 2, 10, now=20)
    assert sweeper.look("a", 2, 10, now=21)


def test_a_clock_that_started_anew_starts_the_watch_anew() -> None:
    seen, overdue = judge(Observation(1, 5000.0), 1, 10, now=3)
    assert (seen, overdue) == (Observation(1, 3), False)


def test_a_sweeper_forgets_what_is_gone_and_goes_on_from_a_snapshot() -> None:
    sweeper = LeaseSweeper[str]()
    for key in "abc":
        sweeper.look(key, 0, 10, now=0)
    sweeper.keep(["b"])
    assert len(sweeper) == 1
    again = LeaseSweeper[str]()
    again.restore(sweeper.snapshot())
    assert again.look("b", 0, 10, now=10)
