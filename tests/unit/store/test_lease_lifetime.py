"""Lifetimes of so many seconds, on a clock that the test sets."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from isthmus.connectors.memory import MemoryConnector
from isthmus.connectors.multi import MultiConnector
from isthmus.connectors.policy import Policy
from isthmus.errors import (
    BrokenError,
    CapabilityError,
    LifetimeEndedError,
    LifetimeError,
    NoRouteError,
)
from isthmus.store import Store
from isthmus.store.lifetime import ContextLifetime, LeaseLifetime, LeasingLifetime
from isthmus.store.lifetime.lease import GRACE_SECONDS
from isthmus.store.lifetime.timer import Timer, timer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Recorder(MemoryConnector):
    """Process memory that notes which leases it gave, and can be out of reach."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.given: list[float | None] = []
        self.away: Exception | None = None

    def put_object(self, obj: Any, **options: Any) -> Any:
        self.given.append(options.get("lease"))
        return super().put_object(obj, **options)

    def lease(self, key: Any, seconds: float | None, *, held: bool = False) -> bool:
        self.given.append(seconds)
        if self.away is not None:
            raise self.away
        return super().lease(key, seconds, held=held)

    def evict(self, key: Any) -> None:
        if self.away is not None:
            raise self.away
        super().evict(key)


class Plain:
    """A connector without leases."""

    kind, key_type = MemoryConnector.kind, MemoryConnector.key_type
    spec_type, from_config = MemoryConnector.spec_type, MemoryConnector.from_config

    def __init__(self, name: str) -> None:
        self._inner = MemoryConnector(name)
        for method in ("get", "get_batch", "evict", "exists", "config", "close", "clear", "list"):
            setattr(self, method, getattr(self._inner, method))
        self.spec = self._inner.spec

    def put(self, obj: Any) -> Any:
        return self._inner.put(obj)

    def put_batch(self, objs: Any) -> Any:
        return self._inner.put_batch(objs)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hand(clock: Clock) -> Timer:
    return Timer(clock, threaded=False)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    connector = Recorder(f"test-{uuid.uuid4().hex[:8]}")
    yield connector
    connector.close()
    MemoryConnector(connector.config()["name"]).clear()


def test_it_ends_in_time_and_not_before(store: Store, clock: Clock, hand: Timer) -> None:
    lease = LeaseLifetime(store, 10, name="short", timer=hand)
    assert isinstance(lease, LeasingLifetime)
    assert hand.turn() is None, "nobody waits for one that has nothing"
    key = store.put("value", lifetime=lease)
    assert "'short' of 1 objects, 10 s left" in repr(lease)
    assert hand.turn() == 10
    clock.now += 9.5
    assert not lease.done()
    assert hand.turn() == pytest.approx(0.5)
    lease.extend(5)
    clock.now += 5
    assert not lease.done()
    assert hand.turn() == pytest.approx(0.5)
    assert store.exists(key)
    clock.now += 0.5
    assert lease.done()
    assert store.exists(key), "about to be evicted"
    with pytest.raises(LifetimeEndedError):
        lease.extend(5)
    with pytest.raises(LifetimeEndedError):
        store.put("value", lifetime=lease)
    assert hand.turn() is None
    assert not store.exists(key)
    assert lease.keys() == []
    assert "ended" in repr(lease)


def test_many_end_in_their_order(store: Store, clock: Clock, hand: Timer) -> None:
    leases = [LeaseLifetime(store, seconds, timer=hand) for seconds in (30, 10, 20)]
    keys = [store.put(number, lifetime=lease) for number, lease in enumerate(leases)]
    leases[1].extend(15)
    seen = []
    while (wait := hand.turn()) is not None:
        clock.now += wait
        seen.append((clock.now, [store.exists(key) for key in keys]))
    assert seen == [
        (1010, [True, True, True]),  # the one that was extended
        (1020, [True, True, True]),
        (1025, [True, True, False]),
        (1030, [True, False, False]),
    ]
    assert clock.now == 1030


@pytest.mark.parametrize(
    "expiry",
    [
        20,
        20.0,
        timedelta(seconds=20),
        datetime.now() + timedelta(seconds=20),
        datetime.now(UTC) + timedelta(seconds=20),
        datetime.now(timezone(timedelta(hours=9))) + timedelta(seconds=20),
    ],
    ids=["int", "float", "span", "local", "utc", "elsewhere"],
)
def test_how_its_end_is_said(hand: Timer, expiry: Any) -> None:
    # Moments were made when the tests were collected.
    assert -300 < LeaseLifetime(None, 320, timer=hand).deadline() - 1320 <= 0
    lease = LeaseLifetime(None, 1000, timer=hand)
    if isinstance(expiry, datetime):
        lease.extend(expiry + timedelta(hours=1))
        assert 4000 < lease.deadline() <= 4620
    else:
        lease.extend(expiry)
        assert lease.deadline() == 2020
        assert LeaseLifetime(None, expiry, timer=hand).deadline() == 1020


@pytest.mark.parametrize(
    "expiry",
    [
        0,
        -1,
        math.inf,
        math.nan,
        timedelta(0),
        datetime(2020, 1, 1),
        datetime(2020, 1, 1, tzinfo=UTC),
    ],
    ids=str,
)
def test_an_end_that_cannot_be(hand: Timer, expiry: Any) -> None:
    with pytest.raises(ValueError, match="positive, finite"):
        LeaseLifetime(None, expiry, timer=hand)
    lease = LeaseLifetime(None, 10, timer=hand)
    if expiry == 0:
        lease.extend(expiry)
    else:
        with pytest.raises(ValueError, match="positive, finite"):
            lease.extend(expiry)
    with pytest.raises(ValueError, match="later than"):
        lease.extend(datetime.now() + timedelta(seconds=1))
    assert lease.deadline() == 1010


def test_who_sets_the_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=1)

    lease = LeaseLifetime(None, datetime.now() + timedelta(hours=1))
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 86_400)
    monkeypatch.setattr("isthmus.store.lifetime.lease.datetime", Later)
    assert not lease.done()
    assert 3500 < lease.promise().seconds < 3602


def test_the_channel_keeps_the_time_too(recorder: Recorder, clock: Clock, hand: Timer) -> None:
    with Store(None, recorder) as store:
        lease = LeaseLifetime(store, 60, timer=hand)
        key = store.put("value", lifetime=lease)
        clock.now += 20
        other = store.put("other", lifetime=lease)
        mine = store.put("mine", lifetime=lease, lease=7.0)
        assert recorder.given == [61.0, 41.0, 7.0]
        recorder.given.clear()
        lease.extend(30)
        assert recorder.given == [71.0, 71.0], "a lease of the user's own is none of ours"
        recorder.given.clear()
        lease.extend(0)
        assert recorder.given == []
        lone = store.put("lone")
        lease.add_key(lone)
        assert recorder.given == [None, 71.0]
        assert recorder.stat(lone).until is not None  # type: ignore[union-attr]
        assert GRACE_SECONDS == 1.0
        lease.close()
        assert not any(map(store.exists, (key, other, mine, lone)))
        assert hand.turn() is None


def test_one_that_is_extended_while_something_is_stored(recorder: Recorder, hand: Timer) -> None:
    with Store(None, recorder) as store:
        lease = LeaseLifetime(store, 60, timer=hand)
        promise = lease.promise()
        key = store.put("value", lease=promise.seconds)
        lease.extend(100)
        recorder.given.clear()
        lease.add_leased(key, store=store, until=promise.until)
        assert recorder.given == [161.0]
        lease.close()


def test_a_channel_that_could_not_be_told(recorder: Recorder, clock: Clock, hand: Timer) -> None:
    with Store("away", recorder) as store:
        lease = LeaseLifetime(store, 60, timer=hand)
        store.put_batch([1, 2], lifetime=lease)
        recorder.away = BrokenError("redis", "gone")
        with pytest.raises(LifetimeError, match="how long it lasts") as told:
            lease.extend(60)
        (error,) = told.value.exceptions
        assert "prolong the lease" in error.__notes__[0]
        assert "1 more" in error.__notes__[1]
        assert lease.deadline() == 1120, "it lasts longer all the same"
        recorder.away = None
        recorder.given.clear()
        lease.extend(0)
        assert recorder.given == [121.0, 121.0]
        lease.close()


def test_an_eviction_that_fails_is_tried_again(
    recorder: Recorder, clock: Clock, hand: Timer, caplog: pytest.LogCaptureFixture
) -> None:
    with Store("away", recorder) as store:
        lease = LeaseLifetime(store, 10, timer=hand)
        key = store.put("value", lifetime=lease)
        clock.now += 10
        recorder.away = BrokenError("redis", "gone")
        with caplog.at_level(logging.WARNING, "isthmus.store"):
            waits = []
            for _ in range(9):
                waits.append(hand.turn())
                clock.now += waits[-1] or 0
        assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert len(caplog.records) == 1
        assert "trying again" in caplog.text
        assert lease.done()
        assert lease.keys() == [("away", key)]
        with pytest.raises(LifetimeError):
            lease.close()
        recorder.away = None
        assert hand.turn() is None
        assert lease.keys() == []


def test_a_connector_without_leases(clock: Clock, hand: Timer) -> None:
    connector: Any = Plain(f"test-{uuid.uuid4().hex[:8]}")
    with Store(None, connector) as store:
        lease = LeaseLifetime(store, 10, timer=hand)
        keys = [store.put("value", lifetime=lease), *store.put_batch([1, 2], lifetime=lease)]
        lease.add_key(store.put("other"))
        lease.extend(5)
        with pytest.raises(CapabilityError):
            store.put("value", lifetime=lease, lease=5)
        clock.now += 15
        assert hand.turn() is None
        assert not any(map(store.exists, keys))
        assert not list(connector.list())


def test_at_the_processs_end_stays_what_the_channel_will_delete(
    recorder: Recorder, hand: Timer
) -> None:
    plain: Any = Plain(f"test-{uuid.uuid4().hex[:8]}")
    with Store("leases", recorder) as store, Store("none", plain) as other:
        lease = LeaseLifetime(store, 10, timer=hand)
        inner = ContextLifetime()
        lease.add(inner)
        kept, gone = store.put("kept", lifetime=lease), other.put("gone", lifetime=lease)
        hand.stop()
        assert store.exists(kept)
        assert not other.exists(gone)
        assert lease.done()
        assert inner.done()
        lease.close()
        assert not store.exists(kept)


def test_futures_carry_the_lease(store: Store, clock: Clock, hand: Timer) -> None:
    connector: Any = store.connector
    lease = LeaseLifetime(store, 60, timer=hand)
    future = store.future(lifetime=lease)
    unset = store.future(lifetime=lease)
    future.set_result("value")
    assert connector.stat(future.key).until is not None
    lease.extend(5)
    clock.now += 65
    assert hand.turn() is None
    assert not future.store.exists(future.key)
    assert not unset.done()


def test_an_object_that_went_where_there_are_no_leases(clock: Clock, hand: Timer) -> None:
    leasing = MemoryConnector(f"test-{uuid.uuid4().hex[:8]}")
    plain: Any = Plain(f"test-{uuid.uuid4().hex[:8]}")
    multi = MultiConnector(
        {"big": (plain, Policy(min_bytes=1000)), "small": (leasing, Policy(max_bytes=999))}
    )
    with Store(None, multi) as store:
        lease = LeaseLifetime(store, 10, timer=hand)
        small, big = store.put("small", lifetime=lease), store.put(bytes(2000), lifetime=lease)
        lone = store.put(bytes(2000))
        lease.add_key(lone)
        lease.extend(5)
        assert [key.connector for key in (small, big, lone)] == ["small", "big", "big"]
        with pytest.raises(NoRouteError, match="cannot give leases"):
            store.put(bytes(2000), lease=5, lifetime=lease)
        clock.now += 15
        assert hand.turn() is None
        assert not any(map(store.exists, (small, big, lone)))


def test_one_thread_for_all_gone_when_none_is_open(store: Store) -> None:
    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "isthmus-lifetimes"]

    leases = [LeaseLifetime(store, 600 + number) for number in range(20)]
    assert threads() == []
    for lease in leases:
        store.put("value", lifetime=lease)
    assert threads() == ["isthmus-lifetimes"]
    (thread,) = (t for t in threading.enumerate() if t.name == "isthmus-lifetimes")
    for lease in leases:
        lease.close()
    thread.join(10)
    assert threads() == []
    assert not timer._queue
    with ContextLifetime() as again:
        again.add(leases[0])


def test_the_thread_ends_them(store: Store) -> None:
    gone = threading.Event()

    class Last:
        def close(self) -> None:
            gone.set()

    lease = LeaseLifetime(store, timedelta(milliseconds=20))
    lease.add(Last())
    assert gone.wait(10)
    lease.close()


def test_a_child_has_none_of_the_parents(store: Store) -> None:
    lease, block = LeaseLifetime(store, 600), ContextLifetime()
    key, other = store.put("value", lifetime=lease), store.put("other", lifetime=block)
    pid = os.fork()
    if pid == 0:
        ok = lease.keys() == [] and block.keys() == []
        lease.close()
        block.close()
        timer.stop()
        os._exit(0 if ok and timer._thread is None else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.exists(key)
    assert store.exists(other)
    lease.close()
    block.close()
