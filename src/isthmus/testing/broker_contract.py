"""The suite that a broker passes, for ours and for third parties'. Needs pytest.

Subclass `BrokerContract` in a test module, with one fixture that returns how to make a broker, each time a
new handle to the same, empty backend::

    class TestMine(BrokerContract):
        @pytest.fixture
        def connect(self, tmp_path):
            return lambda: MyBroker(tmp_path / "logs")

Tests are coroutines that `in_loop` runs, each in an event loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec

import pytest

from isthmus.broker import Broker, Group, Log
from isthmus.errors import ClosedError, FullError, MissingLogError, PayloadError, SpecError
from isthmus.testing.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["BrokerContract", "append_all", "in_loop"]

P = ParamSpec("P")

SOON = 30.0  # seconds that what must come may take on a busy machine


def in_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run a coroutine test in a new event loop, as pytest does a plain one."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def main() -> None:
            async with asyncio.timeout(100):
                await test(*args, **kwargs)

        asyncio.run(main())

    return run


def append_all(broker: Any, log: str, sender: int, calls: int, items: int) -> None:
    """Append `calls` times `items` records that say who sent them, which call, which item: for a `Peer`."""

    async def main() -> None:
        async with type(broker).from_config(broker.config()) as mine:
            opened = await mine.open(log)
            for call in range(calls):
                await opened.append([f"{sender} {call} {item}".encode() for item in range(items)])

    asyncio.run(main())


async def _all(log: Log, after: int = 0) -> list[bytes]:
    found = []
    while records := await log.read(after):
        found += [r.data for r in records]
        after = records[-1].position
    return found


class BrokerContract:
    """What every broker promises."""

    crosses_processes: ClassVar[bool] = True
    """Whether another process sees the same logs."""

    @pytest.fixture
    def connect(self) -> Callable[[], Any]:
        """Return a function that makes a broker: override this."""
        raise NotImplementedError

    # The handle

    @in_loop
    async def test_it_is_a_broker(self, connect: Any) -> None:
        async with connect() as broker:
            assert isinstance(broker, Broker)
            log = await broker.open("a")
            assert isinstance(log, Log)
            assert isinstance(await log.group("g"), Group)
            assert broker.kind
            assert broker.durability

    @in_loop
    async def test_its_configuration_makes_it_again(self, connect: Any) -> None:
        async with connect() as broker:
            config = broker.config()
            assert json.loads(json.dumps(config)) == config
            await (await broker.open("a")).append([b"x"])
            for again in (type(broker).from_config(config), pickle.loads(pickle.dumps(broker))):
                assert again.spec == broker.spec
                async with again:
                    assert await _all(await again.open("a")) == [b"x"]

    @in_loop
    async def test_closing_deletes_nothing_and_is_final(self, connect: Any) -> None:
        broker = connect()
        log = await broker.open("a")
        group = await log.group("g")
        await log.append([b"x"])
        await broker.aclose()
        await broker.aclose()
        uses: list[Any] = [
            lambda: broker.open("a"),
            lambda: broker.logs(),
            lambda: log.append([b"y"]),
            lambda: log.read(),
            lambda: log.wait(0),
            lambda: log.trim(1),
            lambda: log.stat(),
            lambda: group.read("c"),
            lambda: group.acknowledge([1]),
            lambda: group.pending(),
        ]
        for use in uses:
            with pytest.raises(ClosedError):
                await use()
        async with connect() as again:
            assert await _all(await again.open("a")) == [b"x"]

    @in_loop
    async def test_closing_ends_what_waits(self, connect: Any) -> None:
        broker = connect()
        log = await broker.open("a")
        group = await log.group("g")
        waiting = [
            asyncio.ensure_future(log.wait(0)),
            asyncio.ensure_future(group.read("c", timeout=None)),
        ]
        await asyncio.sleep(0)
        await log.stat()
        await broker.aclose()
        for result in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(result, ClosedError)

    def test_it_works_in_one_event_loop_after_another(self, connect: Any) -> None:
        async def main(number: int) -> None:
            async with connect() as broker:
                log = await broker.open("a")
                await log.append([b"%d" % number])
                assert len(await _all(log)) == number

        for number in (1, 2, 3):
            asyncio.run(main(number))

    # Logs

    @in_loop
    async def test_logs_are_listed_and_deleted(self, connect: Any) -> None:
        async with connect() as broker:
            assert await broker.logs() == []
            for name in ("b", "a.b:c-d_e", "A"):
                await broker.open(name)
            assert await broker.logs() == ["A", "a.b:c-d_e", "b"]
            log = await broker.open("b")
            await log.append([b"x"])
            same = await broker.open("b")
            await log.delete()
            await log.delete()
            assert await broker.logs() == ["A", "a.b:c-d_e"]
            for gone in (log, same):
                for call in (gone.stat, gone.read, gone.append, gone.wait):
                    arguments = {gone.append: ([b"y"],), gone.wait: (0,)}.get(call, ())
                    with pytest.raises(MissingLogError, match="'b'"):
                        await call(*arguments)
            assert await _all(await broker.open("b")) == []

    @in_loop
    async def test_a_log_of_the_same_name_as_a_deleted_one_is_another(self, connect: Any) -> None:
        async with connect() as broker:
            old = await broker.open("a", max_records=2)
            group = await old.group("g")
            await old.append([b"x"])
            await group.read("c")
            await old.delete()
            new = await broker.open("a")
            assert (await new.stat())[:4] == (0, 0, 0, 0)
            await new.append([b"1", b"2", b"3"])
            assert await (await new.group("g")).pending() == 0

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "a*", "ä", "x" * 129, 3, None], ids=repr)
    @in_loop
    async def test_a_name_that_no_backend_could_keep_is_refused(
        self, connect: Any, name: Any
    ) -> None:
        async with connect() as broker:
            with pytest.raises(SpecError, match="ASCII"):
                await broker.open(name)
            log = await broker.open("x" * 128)
            with pytest.raises(SpecError, match="ASCII"):
                await log.group(name)
            with pytest.raises(SpecError, match="ASCII"):
                await (await log.group("x" * 128)).read(name)

    @in_loop
    async def test_what_cannot_be_asked_for_is_refused(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            for read in (log.read(limit=0), group.read("c", limit=-1)):
                with pytest.raises(SpecError, match="limit"):
                    await read
            with pytest.raises(SpecError, match="ack_wait"):
                await log.group("g", ack_wait=0)

    # Append, read, trim

    @in_loop
    async def test_what_was_appended_is_read_in_order(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            log = await broker.open("a")
            first = await log.append([b"one"])
            more = await log.append([b"two", b"", bytearray(b"three"), memoryview(b"four")])
            assert await log.append([]) == []
            positions = first + more
            assert positions == sorted(set(positions))
            assert positions[0] >= 1
            records = await (await other.open("a")).read()
            assert [r.position for r in records] == positions
            assert [r.data for r in records] == [b"one", b"two", b"", b"three", b"four"]
            assert all(type(r.data) is bytes for r in records)
            assert [r.data for r in await log.read(positions[2])] == [b"three", b"four"]
            assert await log.read(positions[-1]) == []
            assert await log.read(positions[-1] + 1000) == []

    @in_loop
    async def test_a_read_is_bounded_by_records_and_by_bytes(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            positions = await log.append([b"x" * 1000 for _ in range(10)])
            positions += await log.append([b"y" * 50_000, b"z"])
            assert [r.position for r in await log.read(limit=3)] == positions[:3]
            assert [r.position for r in await log.read(positions[2], limit=3)] == positions[3:6]
            found = await log.read(max_bytes=4_500)
            assert 1 <= len(found) <= 4
            assert [r.position for r in found] == positions[: len(found)]
            # A record larger than that comes alone, so that a reader always gets on.
            (large,) = await log.read(positions[9], max_bytes=4_500)
            assert large.data == b"y" * 50_000
            assert [r.data for r in await log.read(large.position, max_bytes=1)] == [b"z"]

    @in_loop
    async def test_reading_jumps_anywhere(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            positions = await log.append([b"%d" % n for n in range(50)])
            for n in (10, 30, 11, 0, 48, 10, 20):
                (found,) = await log.read(positions[n], limit=1)
                assert found == (positions[n + 1], b"%d" % (n + 1))

    @pytest.mark.parametrize("wrong", ["text", b"bytes", [b"x", "text"], [None], [3]], ids=repr)
    @in_loop
    async def test_what_is_no_record_is_refused(self, connect: Any, wrong: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            with pytest.raises(PayloadError):
                await log.append(wrong)
            assert await log.read() == []

    @in_loop
    async def test_records_may_be_large(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            data = [bytes([n]) * 900_000 for n in range(5)]
            await log.append(data)
            assert await _all(log) == data

    @in_loop
    async def test_trimmed_records_are_forgotten(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            positions = await log.append([b"x" * 100 for _ in range(10)])
            before = await log.stat()
            assert before.records == 10
            assert before.bytes >= 1000
            assert (before.first, before.last) == (positions[0], positions[-1])
            assert await log.trim(positions[3]) == 4
            assert await log.trim(positions[3]) == 0
            assert await log.trim(0) == 0
            after = await log.stat()
            assert after.records == 6
            assert 600 <= after.bytes < before.bytes
            assert (after.first, after.last) == (positions[4], positions[-1])
            assert [r.position for r in await log.read()] == positions[4:]
            assert await log.trim(positions[-1] + 1000) == 6
            empty = await log.stat()
            assert (empty.records, empty.bytes, empty.first) == (0, 0, 0)
            assert empty.last == positions[-1]
            assert await log.wait(0, 0) is False
            (next_,) = await log.append([b"y"])
            assert next_ > positions[-1]
            assert await log.read() == [(next_, b"y")]

    @in_loop
    async def test_concurrent_appends_are_each_whole_and_in_order(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            logs = [await broker.open("a"), await other.open("a")]

            async def send(sender: int) -> list[int]:
                return [
                    p
                    for call in range(20)
                    for p in await logs[sender % 2].append(
                        [f"{sender} {call} {item}".encode() for item in range(3)]
                    )
                ]

            sent = await asyncio.gather(*(send(n) for n in range(8)))
            assert all(own == sorted(own) for own in sent)
            assert len({p for own in sent for p in own}) == 8 * 60
            self.check_senders(await _all(logs[0]), broker.atomic)

    def check_senders(self, found: list[bytes], whole: bool) -> None:
        """Check that every sender's records are in its order and, if promised, every call's together."""
        rows = [tuple(map(int, data.split())) for data in found]
        for sender in {row[0] for row in rows}:
            own = [row for row in rows if row[0] == sender]
            assert own == sorted(own)
        if whole:
            items = max(row[2] for row in rows) + 1
            assert len(rows) % items == 0
            for n in range(0, len(rows), items):
                assert len({row[:2] for row in rows[n : n + items]}) == 1

    @in_loop
    async def test_several_processes_append_to_one_log(self, connect: Any) -> None:
        if not self.crosses_processes:
            pytest.skip("its logs are for one process")
        async with connect() as broker:
            log = await broker.open("a")
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(Peer()) for _ in range(3)]
                for n, peer in enumerate(peers):
                    peer.start(_remote, type(broker), broker.config(), "a", n, 40, 3)
                after, found = 0, list[bytes]()
                while len(found) < 360:
                    assert await log.wait(after, SOON)
                    records = await log.read(after)
                    # Whoever follows the log sees every record: none appears behind the reader's back.
                    assert records[0].position > after
                    found += [r.data for r in records]
                    after = records[-1].position
                for peer in peers:
                    peer.result()
            assert len(set(found)) == len(found) == 360
            self.check_senders(found, broker.atomic)
            assert await _all(log) == found

    # Bounds

    @in_loop
    async def test_a_full_log_refuses_and_stores_nothing(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a", max_records=5)
            positions = await log.append([b"1", b"2", b"3"])
            with pytest.raises(FullError, match=r"'a'.*trim"):
                await log.append([b"4", b"5", b"6"])
            assert await _all(log) == [b"1", b"2", b"3"]
            await log.append([b"4", b"5"])
            with pytest.raises(FullError):
                await log.append([b"6"])
            await log.trim(positions[0])
            await log.append([b"6"])
            assert await _all(log) == [b"2", b"3", b"4", b"5", b"6"]
            assert (await log.stat()).max_records == 5

    @in_loop
    async def test_bytes_are_bounded_too(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a", max_bytes=100_000)
            for _ in range(4):
                await log.append([b"x" * 20_000])
            with pytest.raises(FullError, match="trim"):
                await log.append([b"y", b"x" * 30_000])
            info = await log.stat()
            assert info.records == 4
            assert 80_000 <= info.bytes <= 100_000
            assert info.max_bytes == 100_000
            await log.trim((await log.read(limit=2))[-1].position)
            await log.append([b"x" * 30_000])

    @in_loop
    async def test_bounds_are_the_logs_and_can_be_changed(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            log = await broker.open("a", max_records=2, max_bytes=50_000)
            same = await other.open("a")
            await same.append([b"1", b"2"])
            for full in (log, same):
                with pytest.raises(FullError):
                    await full.append([b"3"])
            await other.open("a", max_records=3)
            await log.append([b"3"])
            assert (await log.stat())[4:] == (3, 50_000)
            for bounds in ({"max_records": 0}, {"max_bytes": -1}):
                with pytest.raises(SpecError, match="at least 1"):
                    await broker.open("b", **bounds)

    @in_loop
    async def test_many_fill_a_bounded_log_to_the_brim(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a", max_records=50)

            async def send(n: int) -> int:
                try:
                    return len(await log.append([b"%d" % n]))
                except FullError:
                    return 0

            assert sum(await asyncio.gather(*(send(n) for n in range(80)))) == 50
            assert (await log.stat()).records == 50

    # The doorbell

    @in_loop
    async def test_a_wait_ends_with_the_record_or_in_time(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            log, same = await broker.open("a"), await other.open("a")
            assert await log.wait(0, 0) is False
            assert await log.wait(0, 0.01) is False
            waiting = [asyncio.ensure_future(x.wait(0, SOON)) for x in (log, same, log)]
            await asyncio.sleep(0)
            await log.stat()
            (position,) = await same.append([b"x"])
            assert await asyncio.gather(*waiting) == [True] * 3
            assert await log.wait(0, 0) is True
            assert await log.wait(position - 1, None) is True
            assert await log.wait(position, 0) is False
            assert await log.read() == [(position, b"x")]
            waiter = asyncio.ensure_future(log.wait(position))
            await same.stat()
            (next_,) = await log.append([b"y"])
            assert await waiter is True
            assert await log.read(position) == [(next_, b"y")]

    @in_loop
    async def test_a_cancelled_wait_loses_nothing(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            for wait in (log.wait(0), group.read("c", timeout=None)):
                waiter: Any = asyncio.ensure_future(wait)
                await asyncio.sleep(0)
                await log.stat()
                waiter.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiter
            (position,) = await log.append([b"x"])
            assert await log.wait(0, SOON) is True
            assert await group.read("c", timeout=SOON) == [(position, b"x", 1)]

    @in_loop
    async def test_another_process_rings(self, connect: Any) -> None:
        if not self.crosses_processes:
            pytest.skip("its logs are for one process")
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            waiting = asyncio.gather(log.wait(0, SOON), group.read("c", timeout=SOON))
            await asyncio.sleep(0)
            with Peer() as peer:
                peer.start(_remote, type(broker), broker.config(), "a", 0, 1, 1)
                rung, (delivery,) = await waiting
                assert rung is True
                assert delivery.data == b"0 0 0"
                peer.result()

    def test_another_thread_rings(self, connect: Any) -> None:
        async def main() -> None:
            async with connect() as broker:
                log = await broker.open("a")
                waiting = asyncio.ensure_future(log.wait(0, SOON))
                await asyncio.sleep(0)
                await log.stat()
                thread = threading.Thread(target=append_all, args=(broker, "a", 0, 1, 1))
                thread.start()
                assert await waiting is True
                await asyncio.to_thread(thread.join)

        asyncio.run(main())

    # Groups

    @in_loop
    async def test_each_record_goes_to_one_consumer_of_each_group(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            log, same = await broker.open("a"), await other.open("a")
            one, two = await log.group("one"), await log.group("two")
            again = await same.group("one")
            positions = await log.append([b"%d" % n for n in range(30)])
            taken = []
            for group, consumer in ((one, "x"), (again, "y"), (one, "z")):
                taken += await group.read(consumer, limit=10)
            assert [d.position for d in taken] == positions
            assert {d.attempt for d in taken} == {1}
            assert await again.read("x") == []
            assert await one.pending() == 30
            assert [d.position for d in await two.read("x")] == positions
            await one.acknowledge(positions[:12])
            await one.acknowledge(positions[:2])
            await one.acknowledge([])
            assert await again.pending() == 18
            assert await two.pending() == 30
            assert await log.read(limit=1) == [(positions[0], b"0")]

    @in_loop
    async def test_a_group_starts_where_it_is_told_once(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            positions = await log.append([b"1", b"2", b"3"])
            group = await log.group("g", start=positions[1])
            assert await group.read("c") == [(positions[2], b"3", 1)]
            group = await log.group("g", start=0)
            assert await group.read("c") == []
            late = await log.group("late", start=positions[-1])
            assert await late.read("c") == []
            (next_,) = await log.append([b"4"])
            assert await late.read("c") == [(next_, b"4", 1)]

    @in_loop
    async def test_what_is_not_acknowledged_in_time_is_delivered_again(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            log, same = await broker.open("a"), await other.open("a")
            group = await log.group("g", ack_wait=0.1)
            rival = await same.group("g")
            positions = await log.append([b"1", b"2", b"3"])
            assert len(await group.read("dies")) == 3
            await group.acknowledge(positions[1:2])
            found: dict[int, Any] = {}
            while len(found) < 2:
                for delivery in await rival.read("lives", timeout=SOON):
                    found.setdefault(delivery.position, delivery)  # or once more, on a slow machine
            assert sorted(found.values()) == [(positions[0], b"1", 2), (positions[2], b"3", 2)]
            # Whoever has it now: the first consumer's late acknowledgement counts. When the other record
            # comes once more, this one would have, too.
            await group.acknowledge([positions[0]])
            assert {d.position for d in await rival.read("lives", timeout=SOON)} == {positions[2]}
            await rival.acknowledge([positions[2]])
            assert await group.pending() == 0
            assert await rival.read("lives") == []

    @in_loop
    async def test_what_has_time_left_is_not_delivered_again(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            patient = await log.group("patient", ack_wait=1000)
            hasty = await log.group("hasty", ack_wait=0.1)
            (position,) = await log.append([b"x"])
            for group in (patient, hasty):
                assert await group.read("c") == [(position, b"x", 1)]
            # The other group's comes again in the meantime.
            assert await hasty.read("d", timeout=SOON) == [(position, b"x", 2)]
            assert await patient.read("d") == []
            assert await patient.pending() == 1

    @in_loop
    async def test_extending_keeps_records(self, connect: Any) -> None:
        ack_wait = 0.4
        async with connect() as broker:
            log = await broker.open("a")
            kept, lost = await log.append([b"kept", b"lost"])
            for attempt in itertools.count():
                group = await log.group(f"g{attempt}", ack_wait=ack_wait)
                await group.read("slow")
                extended, longest = time.monotonic(), 0.0
                found: list[Any] = []
                while not found:
                    await group.extend([kept])
                    extended, before = time.monotonic(), extended
                    longest = max(longest, extended - before)
                    found = await group.read("other", timeout=0.02)
                # A machine that stood still for that long has extended too late: it shows nothing.
                if longest < ack_wait / 2:
                    break
            assert found == [(lost, b"lost", 2)]
            assert await group.pending() == 2

    @in_loop
    async def test_released_records_come_back_at_once(self, connect: Any) -> None:
        async with connect() as broker, connect() as other:
            log, same = await broker.open("a"), await other.open("a")
            group, rival = await log.group("g"), await same.group("g")
            positions = await log.append([b"1", b"2", b"3"])
            await group.read("c")
            await group.release(positions[:2])
            found: list[Any] = []
            while len(found) < 2:
                found += await rival.read("d", timeout=SOON)
            assert found == [(positions[0], b"1", 2), (positions[1], b"2", 2)]
            waiting = asyncio.ensure_future(group.read("e", timeout=SOON))
            await asyncio.sleep(0)
            await log.stat()
            await rival.release(positions[:1])
            assert await waiting == [(positions[0], b"1", 3)]
            assert await group.pending() == 3
            await group.acknowledge(positions)
            await group.release(positions)
            assert await group.read("c") == []

    @in_loop
    async def test_consumers_wait_and_share(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            assert await group.read("c", timeout=0.01) == []
            seen: list[int] = []
            done = asyncio.Event()

            async def consume(name: str) -> None:
                while not done.is_set():
                    for delivery in await group.read(name, limit=3, timeout=SOON):
                        await group.acknowledge([delivery.position])
                        seen.append(delivery.position)
                    if len(seen) >= 40:
                        done.set()

            consumers = [asyncio.ensure_future(consume(n)) for n in ("x", "y", "z")]
            positions = [p for n in range(20) for p in await log.append([b"a", b"b"])]
            await done.wait()
            assert sorted(seen) == positions
            assert await group.pending() == 0
            for consumer in consumers:
                consumer.cancel()
            await asyncio.gather(*consumers, return_exceptions=True)

    @in_loop
    async def test_a_group_says_how_far_it_has_come(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            assert await group.progress() == (0, 0)
            positions = await log.append([b"1", b"2", b"3", b"4"])
            assert await group.progress() == (0, 0)
            await group.read("c", limit=3)
            assert await group.progress() == (positions[0] - 1, positions[2])
            await group.acknowledge([positions[1]])
            assert (await group.progress()).done == positions[0] - 1
            await group.acknowledge([positions[0]])
            assert await group.progress() == (positions[1], positions[2])
            await group.acknowledge([positions[2]])
            assert await group.progress() == (positions[2], positions[2])
            await group.delete()
            with pytest.raises(MissingLogError, match="group 'g'"):
                await group.progress()

    @in_loop
    async def test_groups_forget_trimmed_records(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            positions = await log.append([b"%d" % n for n in range(6)])
            await group.read("c", limit=4)
            await log.trim(positions[1])
            assert await group.pending() == 2
            # What is kept and not acknowledged is not lost to the group.
            await group.release(positions[:4])
            found: list[Any] = []
            while len(found) < 4:
                found += await group.read("c", timeout=SOON)
            assert sorted(d.position for d in found) == positions[2:]
            await log.trim(positions[-1])
            assert await group.pending() == 0
            assert await group.read("c") == []
            (next_,) = await log.append([b"new"])
            assert await group.read("c", timeout=SOON) == [(next_, b"new", 1)]

    @in_loop
    async def test_a_deleted_group_is_gone_and_can_be_made_anew(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            (position,) = await log.append([b"x"])
            await group.read("c")
            await group.delete()
            await group.delete()
            for use in (lambda: group.read("c"), group.pending):
                with pytest.raises(MissingLogError, match="'g'"):
                    await use()
            group = await log.group("g")
            assert await group.read("c") == [(position, b"x", 1)]

    @in_loop
    async def test_a_group_of_a_deleted_log_says_so(self, connect: Any) -> None:
        async with connect() as broker:
            log = await broker.open("a")
            group = await log.group("g")
            await log.delete()
            for use in (lambda: group.read("c"), group.pending, lambda: log.group("h")):
                with pytest.raises(MissingLogError):
                    await use()
            await group.delete()


def _remote(_: Any, kind: Any, config: Any, log: str, sender: int, calls: int, items: int) -> None:
    append_all(kind.from_config(config), log, sender, calls, items)
