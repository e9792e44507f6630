"""The suite that a connector passes, for ours and for third parties'. Needs pytest.

Subclass `ConnectorContract` in a test module, with one fixture::

    class TestMine(ConnectorContract):
        @pytest.fixture
        def connector(self):
            with MyConnector(...) as connector:
                yield connector
                connector.clear()

What a connector does not offer (`ReservingConnector` and so on) is skipped, with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import signal
import threading
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest

from isthmus.connectors import (
    BellConnector,
    Connector,
    LeasingConnector,
    ListableConnector,
    RangeConnector,
    ReservingConnector,
    WaitingConnector,
    connectors,
)
from isthmus.errors import ClosedError, ElsewhereError, KeyTypeError, PayloadError, SpecError
from isthmus.testing import chores
from isthmus.testing.chores import pattern, seed_of
from isthmus.testing.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ConnectorContract"]

SIZES = (0, 1, 7, 8, 4095, 4096, 4097, 30_000, 65_536, 100_001, 262_144, 1_000_003, 10_000_000)
SMALL, LARGE = 1_000, 3_000_000
BRIEF, LONG = 0.05, 600.0  # seconds of leases


def need(connector: Any, capability: type[Any]) -> Any:
    """Return the connector, or skip the test if it lacks the capability."""
    if not isinstance(connector, capability):
        pytest.skip(f"{type(connector).__name__} is no {capability.__name__}")
    return connector


class ConnectorContract:
    """Every promise of `isthmus.connectors.Connector`, as tests."""

    crosses_processes: ClassVar[bool] = True
    """Whether another process of this host reaches the objects."""

    large_bytes: ClassVar[int] = 50_000_000
    """Size of the largest object that is tried."""

    keeps_when_closed: ClassVar[bool] = True
    """Whether objects outlive the handle that stored them."""

    holds_leases: ClassVar[bool] = True
    """Whether a lease that its process holds counts only once that process has ended."""

    @pytest.fixture
    def connector(self) -> Iterator[Any]:
        """Yield an open connector over storage that nobody else uses, and empty it afterwards."""
        raise NotImplementedError("a subclass says which connector to test")

    @pytest.fixture
    def peer(self, connector: Any) -> Iterator[Peer]:
        """Yield another process with the connector open."""
        self._need_processes()
        with Peer(connector) as peer:
            yield peer

    def _need_processes(self) -> None:
        if not self.crosses_processes:
            pytest.skip("its objects do not leave this process")

    # The nine methods

    def test_it_follows_the_protocol(self, connector: Any) -> None:
        assert isinstance(connector, Connector)
        assert issubclass(connector.key_type, tuple)
        assert connector.key_type._fields  # type: ignore[attr-defined]

    @pytest.mark.parametrize("size", SIZES)
    def test_an_object_comes_back_whole(self, connector: Any, size: int) -> None:
        data = pattern(size, size)
        key = connector.put(data)
        assert connector.exists(key)
        assert connector.get(key) == data
        assert len(connector.get(key)) == size
        connector.evict(key)

    def test_a_large_object_comes_back_whole(self, connector: Any) -> None:
        self.check_large_object(connector, self.large_bytes)

    def check_large_object(self, connector: Any, size: int) -> None:
        """Store and get an object of any size, in two pieces; for a test of your own with more of it."""
        data = pattern(1, size)
        key = connector.put([data[: 1 << 20], memoryview(data)[1 << 20 :]])
        assert connector.get(key) == data
        connector.evict(key)

    @pytest.mark.parametrize("size", [0, 1, SMALL, LARGE])
    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview], ids=lambda t: t.__name__)
    def test_every_kind_of_buffer(self, connector: Any, wrap: Any, size: int) -> None:
        data = pattern(2, size)
        assert bytes(connector.get(connector.put(wrap(data)))) == data

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_pieces_are_stored_as_one_object(self, connector: Any, size: int) -> None:
        data = pattern(3, size)
        view = memoryview(data)
        cuts = [b"", view[:1], bytearray(view[1:700]), b"", bytes(view[700:701]), view[701:], b""]
        assert bytes(connector.get(connector.put(cuts))) == data
        assert bytes(connector.get(connector.put([]))) == b""
        assert bytes(connector.get(connector.put([b"", b""]))) == b""

    def test_many_pieces(self, connector: Any) -> None:
        data = pattern(4, 50_000)
        view = memoryview(data)
        cuts = [view[i : i + 10] for i in range(0, len(data), 10)]
        assert bytes(connector.get(connector.put(cuts))) == data

    def test_typed_and_shaped_views_are_stored_as_their_bytes(self, connector: Any) -> None:
        numbers = array("d", range(5_000))
        table = memoryview(numbers).cast("B").cast("d", (50, 100))
        assert bytes(connector.get(connector.put(memoryview(numbers)))) == numbers.tobytes()
        assert bytes(connector.get(connector.put([b"x", table]))) == b"x" + numbers.tobytes()

    @pytest.mark.parametrize("wrong", [memoryview(b"abcdef")[::2], "text", None, 3, [b"x", "text"]])
    def test_what_is_no_buffer_is_refused(self, connector: Any, wrong: Any) -> None:
        with pytest.raises(PayloadError, match="C-contiguous"):
            connector.put(wrong)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_the_stored_object_is_a_snapshot(self, connector: Any, size: int) -> None:
        data = bytearray(pattern(5, size))
        key = connector.put(data)
        several = connector.put([b"head", memoryview(data)])
        data[:] = bytes(size)
        assert bytes(connector.get(key)) == pattern(5, size)
        assert bytes(connector.get(several)) == b"head" + pattern(5, size)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_writing_to_a_view_never_reaches_the_store(self, connector: Any, size: int) -> None:
        key = connector.put(pattern(6, size))
        view = memoryview(connector.get(key))
        if not view.readonly:
            view[:] = bytes(size)
        assert bytes(connector.get(key)) == pattern(6, size)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_view_outlives_its_object(self, connector: Any, size: int) -> None:
        key = connector.put(pattern(7, size))
        view = connector.get(key)
        connector.evict(key)
        others = [connector.put(pattern(8, size)) for _ in range(3)]
        assert seed_of(view) == 7
        assert [seed_of(connector.get(k)) for k in others] == [8, 8, 8]

    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_an_evicted_object_is_gone(self, connector: Any, size: int) -> None:
        key, other = connector.put(pattern(9, size)), connector.put(pattern(10, size))
        connector.evict(key)
        assert not connector.exists(key)
        assert connector.get(key) is None
        connector.evict(key)
        assert connector.exists(other)
        assert bytes(connector.get(other)) == pattern(10, size)

    def test_batches_keep_their_order(self, connector: Any) -> None:
        objs = [pattern(i, size) for i, size in enumerate((0, 5, SMALL, LARGE, 17))]
        keys = connector.put_batch(objs)
        assert len(set(keys)) == len(objs)
        connector.evict(keys[2])
        found = connector.get_batch(keys)
        assert found[2] is None
        assert [bytes(f) for f in found if f is not None] == [*objs[:2], *objs[3:]]
        assert connector.put_batch([]) == []
        assert connector.get_batch([]) == []

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_key_travels_as_plain_values(self, connector: Any, size: int) -> None:
        key = connector.put(pattern(11, size))
        assert type(key) is connector.key_type
        for travelled in (
            json.loads(json.dumps(key)),
            msgspec.msgpack.decode(msgspec.msgpack.encode(key)),
            pickle.loads(pickle.dumps(key)),
        ):
            again = connector.key_type(*travelled)
            assert again == key
            assert seed_of(connector.get(again)) == 11

    @pytest.mark.parametrize(
        "key", ["key", 3, ("a", "b"), ("../../etc/passwd",), b"", None, object], ids=repr
    )
    def test_a_foreign_key_is_refused(self, connector: Any, key: Any) -> None:
        for operation in (connector.get, connector.exists, connector.evict):
            with pytest.raises(KeyTypeError, match="put"):
                operation(key)
        with pytest.raises(KeyTypeError):
            connector.get_batch([key])

    def test_its_configuration_opens_it_again(self, connector: Any) -> None:
        config = connector.config()
        assert json.loads(json.dumps(config)) == config
        assert connector.spec.config() == config
        assert type(connector.spec) is connector.spec_type
        key = connector.put(b"shared")
        with type(connector).from_config(config) as again:
            assert again.spec == connector.spec
            assert again.config() == config
            assert bytes(again.get(key)) == b"shared"
        assert bytes(connector.get(key)) == b"shared"

    def test_its_constructor_takes_its_specification(self, connector: Any) -> None:
        spec = connector.spec
        fields = {name: getattr(spec, name) for name in spec.__struct_fields__}
        with type(connector)(**fields) as again:
            assert again.spec == spec

    def test_a_wrong_configuration_is_refused(self, connector: Any) -> None:
        with pytest.raises(SpecError, match="no_such_field"):
            type(connector).from_config({**connector.config(), "no_such_field": 1})

    def test_the_registry_knows_it(self, connector: Any) -> None:
        if connector.kind not in connectors.kinds():
            pytest.skip(f"{connector.kind!r} is not registered, as an entry point or otherwise")
        assert connectors.get(connector.kind) is type(connector)

    def test_a_closed_handle_says_so(self, connector: Any) -> None:
        key = connector.put(b"kept")
        with type(connector).from_config(connector.config()) as other:
            pass
        other.close()
        for operation in (other.get, other.exists, other.evict):
            with pytest.raises(ClosedError, match="closed"):
                operation(key)
        with pytest.raises(ClosedError):
            other.put(b"x")
        with pytest.raises(ClosedError):
            other.put_batch([b"x"])
        assert other.config() == connector.config()
        assert bytes(connector.get(key)) == b"kept"

    def test_close_deletes_nothing(self, connector: Any) -> None:
        if not self.keeps_when_closed:
            pytest.skip("its objects live as long as the handle")
        with type(connector).from_config(connector.config()) as other:
            keys = [other.put(pattern(12, size)) for size in (0, SMALL, LARGE)]
            view = other.get(keys[-1])
        assert [len(connector.get(k)) for k in keys] == [0, SMALL, LARGE]
        assert seed_of(view) == 12

    # Concurrency

    def test_many_threads(self, connector: Any) -> None:
        def work(worker: int) -> None:
            rng = random.Random(worker)
            mine: list[tuple[Any, int, int]] = []
            for turn in range(30):
                size = rng.choice((8, 500, 5_000, 70_000, 400_000))
                seed = worker * 1_000 + turn
                mine.append((connector.put(pattern(seed, size)), seed, size))
                if len(mine) > 5:
                    key, seed, size = mine.pop(rng.randrange(len(mine)))
                    view = connector.get(key)
                    connector.evict(key)
                    assert len(view) == size
                    assert seed_of(view) == seed
                    assert connector.get(key) is None
            for key, seed, _ in mine:
                assert seed_of(connector.get(key)) == seed
                connector.evict(key)

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work, w) for w in range(8)]:
                done.result()

    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_objects_cross_processes(self, connector: Any, peer: Peer, size: int) -> None:
        ours = connector.put(pattern(13, size))
        assert peer.call(chores.get, ours) == pattern(13, size)
        theirs = peer.call(chores.put, 14, size)
        assert bytes(connector.get(theirs)) == pattern(14, size)
        peer.call(chores.evict, ours)
        assert connector.get(ours) is None
        connector.evict(theirs)
        assert not peer.call(chores.exists, theirs)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_objects_outlive_their_producer(self, connector: Any, size: int) -> None:
        self._need_processes()
        for end in (Peer.close, Peer.kill):
            with Peer(connector) as peer:
                key = peer.call(chores.put, 15, size)
                end(peer)
            assert seed_of(connector.get(key)) == 15

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_view_outlives_an_eviction_elsewhere(
        self, connector: Any, peer: Peer, size: int
    ) -> None:
        key = connector.put(pattern(16, size))
        peer.call(chores.hold, key)
        connector.evict(key)
        others = [connector.put(pattern(17, size)) for _ in range(3)]
        assert peer.call(chores.still_held) == [16]
        assert [seed_of(connector.get(k)) for k in others] == [17, 17, 17]

    def test_many_processes(self, connector: Any) -> None:
        self._need_processes()
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Peer(connector)) for _ in range(3)]
            for number, peer in enumerate(peers):
                peer.start(_churn, number, 40)
            kept = [key for peer in peers for key in peer.result()]
            assert len(set(kept)) == len(kept)
            for key, seed in kept:
                assert seed_of(connector.get(key)) == seed

    def test_a_forked_child_goes_on_by_itself(self, connector: Any) -> None:
        before = [connector.put(pattern(18, size)) for size in (SMALL, LARGE)]
        view = connector.get(before[1])

        def child() -> None:
            assert [seed_of(connector.get(k)) for k in before] == [18, 18]
            assert seed_of(view) == 18
            own = [connector.put(pattern(19, size)) for size in (SMALL, LARGE)]
            assert [seed_of(connector.get(k)) for k in own] == [19, 19]
            for key in own:
                connector.evict(key)

        pid = _fork(child)
        ours = [connector.put(pattern(20, size)) for size in (SMALL, LARGE)]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [seed_of(connector.get(k)) for k in (*before, *ours)] == [18, 18, 20, 20]
        assert seed_of(view) == 18

    def test_a_process_that_cannot_reach_an_object_says_so(self, connector: Any) -> None:
        if self.crosses_processes:
            pytest.skip("other processes reach its objects")
        key = connector.put(b"here")
        with Peer(connector) as peer, pytest.raises(ElsewhereError, match=str(os.getpid())):
            peer.call(chores.get, key)

    # Reserved keys and waiting

    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_the_first_to_store_under_a_reserved_key_wins(self, connector: Any, size: int) -> None:
        need(connector, ReservingConnector)
        key = connector.reserve()
        assert not connector.exists(key)
        assert connector.get(key) is None
        assert connector.put_at(key, pattern(21, size)) is True
        assert connector.put_at(key, pattern(22, size)) is False
        assert bytes(connector.get(key)) == pattern(21, size)
        connector.evict(key)
        assert connector.get(key) is None

    def test_a_race_for_a_reserved_key_has_one_winner(self, connector: Any) -> None:
        need(connector, ReservingConnector)
        keys = [connector.reserve() for _ in range(20)]
        start = threading.Barrier(6)

        def race(seed: int) -> list[bool]:
            start.wait()
            return [connector.put_at(key, pattern(seed, 70_000)) for key in keys]

        with ThreadPoolExecutor(6) as pool:
            won = list(pool.map(race, range(6)))
        self._one_winner_each(connector, keys, won)

    def test_a_race_between_processes_has_one_winner(self, connector: Any) -> None:
        need(connector, ReservingConnector)
        self._need_processes()
        keys = [connector.reserve() for _ in range(40)]
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(Peer(connector)) for _ in range(3)]
            for peer in peers:
                assert peer.call(chores.exists, keys[0]) is False
            for seed, peer in enumerate(peers):
                peer.start(chores.put_all_at, keys, seed, 70_000)
            won = [peer.result() for peer in peers]
        self._one_winner_each(connector, keys, won)

    def _one_winner_each(self, connector: Any, keys: list[Any], won: list[list[bool]]) -> None:
        for number, key in enumerate(keys):
            winners = [seed for seed, wins in enumerate(won) if wins[number]]
            assert winners == [seed_of(connector.get(key))]

    def test_waiting_ends_when_the_object_comes(self, connector: Any) -> None:
        need(connector, WaitingConnector)
        need(connector, ReservingConnector)
        key = connector.reserve()
        assert connector.wait(key, 0) is False
        assert connector.wait(key, 0.01) is False
        later = threading.Timer(0.02, connector.put_at, (key, b"late"))
        later.start()
        assert connector.wait(key, 30) is True
        assert bytes(connector.get(key)) == b"late"
        assert connector.wait(key) is True
        later.join()

    def test_waiting_for_another_process(self, connector: Any, peer: Peer) -> None:
        need(connector, WaitingConnector)
        need(connector, ReservingConnector)
        key = connector.reserve()
        peer.start(chores.put_later, key, 23, LARGE, 0.02)
        assert connector.wait(key, 30) is True
        assert seed_of(connector.get(key)) == 23
        assert peer.result() is None
        other = connector.reserve()
        peer.start(chores.wait, other, 30)
        connector.put_at(other, b"")
        assert peer.result() is True

    def test_a_bell_rings_for_what_is_stored_under_reserved_keys(
        self, connector: Any, peer: Peer
    ) -> None:
        need(connector, BellConnector)
        before, small, large = (connector.reserve() for _ in range(3))
        connector.put_at(before, b"")
        with connector.bell() as listen:
            assert list(listen(0)) == []
            connector.put_at(small, b"")
            peer.start(chores.put_later, large, 29, LARGE, 0.0)
            rang: list[Any] = []
            while len(rang) < 2:
                rang += listen(1.0)
            assert set(rang) == {small, large}
            assert seed_of(connector.get(large)) == 29, "it rings when the whole object is there"
            assert peer.result() is None

    # Ranges

    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_ranges(self, connector: Any, size: int) -> None:
        need(connector, RangeConnector)
        data = pattern(24, size)
        key = connector.put(data)
        for offset, length in (
            (0, size),
            (0, 0),
            (1, 10),
            (size // 2, size),
            (size, 5),
            (size + 9, 5),
        ):
            found = connector.get_range(key, offset, length)
            assert bytes(found) == data[offset : offset + length], (offset, length)
        for wrong in ((-1, 5), (0, -1)):
            with pytest.raises(ValueError, match="negative"):
                connector.get_range(key, *wrong)
        connector.evict(key)
        assert connector.get_range(key, 0, 1) is None

    # Leases

    @pytest.mark.parametrize("size", [0, SMALL, LARGE])
    def test_an_object_goes_when_its_lease_has_run_out(self, connector: Any, size: int) -> None:
        need(connector, LeasingConnector)
        kept = connector.put(pattern(30, size))
        (batched,) = connector.put_batch([pattern(31, size)], lease=BRIEF)
        keys = [connector.put(pattern(32, size), lease=BRIEF), batched]
        if isinstance(connector, ReservingConnector):
            reserving: Any = connector
            reserved = reserving.reserve()
            assert reserving.put_at(reserved, pattern(33, size), lease=BRIEF) is True
            keys.append(reserved)
        later = connector.put(pattern(34, size))
        assert connector.lease(later, BRIEF) is True
        self._until_gone(connector, [*keys, later])
        assert not any(connector.exists(key) for key in (*keys, later))
        assert bytes(connector.get(kept)) == pattern(30, size)
        assert connector.renew([*keys, kept]) == [False] * (len(keys) + 1)

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_an_object_is_there_and_whole_until_then(self, connector: Any, size: int) -> None:
        need(connector, LeasingConnector)
        now = time.time()
        key = connector.put(pattern(35, size), lease=LONG)
        connector.sweep()
        assert seed_of(connector.get(key)) == 35
        until = connector.stat(key).until
        assert abs(until - now - LONG) < 60
        assert [info.until for info in connector.list()] == [pytest.approx(until, abs=1)]
        assert connector.lease(key, None) is True
        assert connector.stat(key).until is None
        assert connector.renew([key]) == [False]

    def test_a_renewed_lease_begins_anew(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        brief = connector.put(b"brief", lease=BRIEF)
        keys = [connector.put(pattern(36, size), lease=0.3) for size in (SMALL, LARGE, SMALL)]
        start = last = time.monotonic()
        while time.monotonic() - start < 0.4:
            began = time.monotonic()
            renewed = connector.renew(keys)
            if time.monotonic() - last > 0.2:
                pytest.skip("this machine is too busy to renew in time")
            last = began
            assert renewed == [True] * 3
            connector.sweep()
            time.sleep(0.01)
        assert [seed_of(connector.get(key)) for key in keys] == [36] * 3
        assert not connector.exists(brief)
        self._until_gone(connector, keys)

    def test_a_lease_can_be_given_up_for_another_or_none(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        keys = [connector.put(pattern(37, size), lease=BRIEF) for size in (SMALL, SMALL, LARGE)]
        assert [
            connector.lease(key, seconds)
            for key, seconds in zip(keys, (None, LONG, None), strict=True)
        ]
        self._until_gone(connector, [connector.put(b"brief", lease=BRIEF)])
        assert [seed_of(connector.get(key)) for key in keys] == [37] * 3

    def test_what_is_not_there_has_no_lease(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        leased, other = connector.put(pattern(38, SMALL), lease=LONG), connector.put(b"other")
        for key in (leased, other):
            connector.evict(key)
            assert connector.lease(key, 5.0) is False
            assert connector.lease(key, None) is False
        assert connector.renew([leased, other]) == [False, False]
        assert connector.renew([]) == []
        assert connector.sweep() == 0

    def test_a_refused_put_leaves_the_lease_as_it_is(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        need(connector, ReservingConnector)
        for size in (SMALL, LARGE):
            key = connector.reserve()
            assert connector.put_at(key, pattern(38, size))
            assert connector.put_at(key, pattern(40, size), lease=BRIEF) is False
            self._until_gone(connector, [connector.put(b"brief", lease=BRIEF)])
            assert seed_of(connector.get(key)) == 38

    def test_an_evicted_objects_lease_is_not_its_successors(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        need(connector, ReservingConnector)
        for size in (SMALL, LARGE):
            key = connector.reserve()
            assert connector.put_at(key, pattern(39, size), lease=BRIEF)
            connector.evict(key)
            assert connector.put_at(key, pattern(41, size))
            self._until_gone(connector, [connector.put(b"brief", lease=BRIEF)])
            assert seed_of(connector.get(key)) == 41

    def test_many_are_renewed_together(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        keys = connector.put_batch([pattern(n, SMALL) for n in range(300)], lease=LONG)
        connector.evict(keys[7])
        assert connector.renew(keys) == [n != 7 for n in range(300)]

    @pytest.mark.parametrize("seconds", [0, -1.0, float("inf"), float("nan")])
    def test_an_impossible_lease_is_refused(self, connector: Any, seconds: float) -> None:
        need(connector, LeasingConnector)
        key = connector.put(b"kept")
        with pytest.raises(ValueError, match="positive"):
            connector.put(b"x", lease=seconds)
        with pytest.raises(ValueError, match="positive"):
            connector.put_batch([b"x"], lease=seconds)
        with pytest.raises(ValueError, match="positive"):
            connector.lease(key, seconds)
        with pytest.raises(ValueError, match="held"):
            connector.put(b"x", held=True)
        assert bytes(connector.get(key)) == b"kept"
        assert len(list(connector.list())) == 1

    def test_leases_know_their_connectors_keys_and_its_end(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        key = connector.put(b"kept", lease=LONG)
        for wrong in ("key", 3, ("a", "b"), ("../../etc/passwd",)):
            with pytest.raises(KeyTypeError):
                connector.lease(wrong, LONG)
            with pytest.raises(KeyTypeError):
                connector.renew([key, wrong])
        with type(connector).from_config(connector.config()) as other:
            pass
        with pytest.raises(ClosedError):
            other.lease(key, LONG)
        with pytest.raises(ClosedError):
            other.renew([key])

    def test_a_killed_producers_leased_object_goes(self, connector: Any, peer: Peer) -> None:
        need(connector, LeasingConnector)
        with Peer(connector) as producer:
            keys = [producer.call(chores.put_leased, 42, n, BRIEF, False) for n in (SMALL, LARGE)]
            kept = [producer.call(chores.put_leased, 43, n, LONG, False) for n in (SMALL, LARGE)]
            producer.kill()
        self._until_gone(connector, keys, peer)
        assert [seed_of(connector.get(key)) for key in kept] == [43, 43]

    def test_a_producer_killed_at_any_moment_leaves_nothing_without_a_deadline(
        self, connector: Any
    ) -> None:
        need(connector, LeasingConnector)
        self._need_processes()
        rng = random.Random(4)
        for _ in range(2):
            with Peer(connector) as producer:
                producer.start(_put_leased_for_ever, LONG)
                deadline = time.monotonic() + 20
                while not any(True for _ in connector.list()) and time.monotonic() < deadline:
                    time.sleep(0.001)
                time.sleep(rng.random() * 0.02)
                producer.kill()
            connector.sweep()
            found = list(connector.list())
            assert found
            assert all(info.until is not None for info in found)
            connector.clear()

    def test_what_a_suspended_process_holds_is_kept_until_it_is_killed(
        self, connector: Any
    ) -> None:
        need(connector, LeasingConnector)
        self._need_processes()
        if not self.holds_leases:
            pytest.skip("its channel does not know whether a process lives")
        with Peer(connector) as holder:
            keys = [holder.call(chores.put_leased, 44, n, BRIEF, True) for n in (SMALL, LARGE)]
            keys.append(holder.call(chores.put, 44, SMALL))
            assert holder.call(chores.lease, keys[-1], BRIEF, True) is True
            holder.send_signal(signal.SIGSTOP)
            self._until_gone(connector, [connector.put(b"brief", lease=BRIEF)])
            for _ in range(3):
                connector.sweep()
            assert [seed_of(connector.get(key)) for key in keys] == [44, 44, 44]
            holder.kill()
        self._until_gone(connector, keys)

    def test_a_renewal_from_elsewhere_counts(self, connector: Any, peer: Peer) -> None:
        need(connector, LeasingConnector)
        key = connector.put(pattern(46, SMALL), lease=LONG)
        assert peer.call(chores.renew, [key]) == [True]
        assert peer.call(chores.lease, key, BRIEF, False) is True
        assert connector.renew([key]) == [True]
        self._until_gone(connector, [key])
        assert peer.call(chores.renew, [key]) == [False]

    def test_a_process_with_leases_sweeps_by_itself(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        keys = [connector.put(pattern(47, size), lease=BRIEF) for size in (SMALL, LARGE)]
        deadline = time.monotonic() + 30
        while any(connector.exists(key) for key in keys) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert not any(connector.exists(key) for key in keys)

    def test_who_opens_sweeps(self, connector: Any) -> None:
        need(connector, LeasingConnector)
        self._need_processes()
        with Peer(connector) as producer:
            key = producer.call(chores.put_leased, 48, SMALL, BRIEF, False)
            producer.kill()
        time.sleep(BRIEF)
        with type(connector).from_config(connector.config()) as other:
            deadline = time.monotonic() + 30
            while other.exists(key) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert not other.exists(key)

    def _until_gone(self, connector: Any, keys: list[Any], sweeper: Peer | None = None) -> None:
        """Sweep, here or there, until the keys' leases have run out and they are gone."""
        deadline = time.monotonic() + 30
        while any(connector.exists(key) for key in keys) and time.monotonic() < deadline:
            if sweeper is None:
                connector.sweep()
            else:
                sweeper.call(chores.sweep)
            time.sleep(0.002)
        assert not any(connector.exists(key) for key in keys)

    # Listing, clearing, sweeping

    def test_it_lists_what_it_holds(self, connector: Any) -> None:
        need(connector, ListableConnector)
        assert list(connector.list()) == []
        now = time.time()
        sizes = {connector.put(pattern(25, size)): size for size in (0, SMALL, LARGE)}
        if isinstance(connector, ReservingConnector):
            key = connector.reserve()
            connector.put_at(key, bytes(11))
            sizes[key] = 11
            connector.reserve()
        found = {info.key: info for info in connector.list()}
        assert {key: info.size for key, info in found.items()} == sizes
        for key, info in found.items():
            assert connector.stat(key) == info
            assert abs(info.created - now) < 60
            assert not info.owner or info.owner.endswith(f":{os.getpid()}")
        gone = next(iter(sizes))
        connector.evict(gone)
        assert connector.stat(gone) is None
        assert gone not in {info.key for info in connector.list()}

    def test_clear_deletes_everything(self, connector: Any) -> None:
        need(connector, ListableConnector)
        keys = [connector.put(pattern(26, size)) for size in (0, SMALL, SMALL, LARGE)]
        view = connector.get(keys[-1])
        assert connector.clear() == 4
        assert not any(connector.exists(key) for key in keys)
        assert list(connector.list()) == []
        assert connector.clear() == 0
        assert seed_of(view) == 26
        again = connector.put(b"usable")
        assert bytes(connector.get(again)) == b"usable"

    def test_a_sweep_spares_what_is_complete(self, connector: Any) -> None:
        need(connector, ListableConnector)
        keys = [connector.put(pattern(27, size)) for size in (0, SMALL, LARGE)]
        connector.sweep()
        assert [len(connector.get(key)) for key in keys] == [0, SMALL, LARGE]
        assert connector.sweep() == 0

    # Killed processes

    @pytest.mark.parametrize("size", [SMALL, 20_000_000])
    def test_a_killed_writer_leaves_nothing_torn(self, connector: Any, size: int) -> None:
        need(connector, ListableConnector)
        self._need_processes()
        rng = random.Random(size)
        for _ in range(4):
            with Peer(connector) as peer:
                peer.start(_put_for_ever, size)
                deadline = time.monotonic() + 20
                while not any(True for _ in connector.list()) and time.monotonic() < deadline:
                    time.sleep(0.001)
                time.sleep(rng.random() * 0.02)
                peer.kill()
            for info in connector.list():
                data = connector.get(info.key)
                assert len(data) == size
                seed_of(data)
            del data
            connector.sweep()
            assert connector.sweep() == 0
            connector.clear()

    def test_a_writer_that_lives_is_not_swept(self, connector: Any, peer: Peer) -> None:
        need(connector, ListableConnector)
        peer.start(_put_for_ever, 20_000_000)
        rng = random.Random(1)
        for _ in range(20):
            time.sleep(rng.random() * 0.02)
            peer.send_signal(signal.SIGSTOP)
            connector.sweep()
            peer.send_signal(signal.SIGCONT)
        assert peer.result() is None  # it would have raised, had its file been taken away
        for info in connector.list():
            seed_of(connector.get(info.key))

    @pytest.mark.parametrize("size", [SMALL, LARGE])
    def test_a_killed_reader_holds_nothing(self, connector: Any, size: int) -> None:
        need(connector, ListableConnector)
        self._need_processes()
        for _ in range(2):
            key = connector.put(pattern(28, size))
            with Peer(connector) as peer:
                peer.call(chores.hold, key)
                peer.kill()
            connector.evict(key)
            connector.sweep()
            assert connector.sweep() == 0
            assert list(connector.list()) == []


def _churn(connector: Any, number: int, turns: int) -> list[tuple[Any, int]]:
    rng = random.Random(number)
    kept: list[tuple[Any, int]] = []
    for turn in range(turns):
        seed = number * 1_000_000 + turn
        kept.append((connector.put(pattern(seed, rng.choice((8, 2_000, 70_000, 900_000)))), seed))
        if len(kept) > 4:
            key, seed = kept.pop(rng.randrange(len(kept)))
            view = connector.get(key)
            if rng.random() < 0.5:
                del view
                connector.evict(key)
            else:
                connector.evict(key)
                assert seed_of(view) == seed
            assert connector.get(key) is None
    return kept


def _put_for_ever(connector: Any, size: int) -> None:
    """Not for ever, so that a test that forgets to kill it ends: three objects stay at a time."""
    data = pattern(29, size)
    kept: list[Any] = []
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        kept.append(connector.put(data))
        if len(kept) > 3:
            connector.evict(kept.pop(0))


def _put_leased_for_ever(connector: Any, lease: float) -> None:
    deadline = time.monotonic() + 1.0
    put_at = getattr(connector, "put_at", None)
    while time.monotonic() < deadline:
        connector.put(pattern(29, SMALL), lease=lease)
        connector.put(pattern(29, 100_000), lease=lease)
        if put_at is not None:
            put_at(connector.reserve(), pattern(29, SMALL), lease=lease)


def _fork(child: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        child()
        code = 0
    finally:
        os._exit(code)
    raise AssertionError("unreachable")
