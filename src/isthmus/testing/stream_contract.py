"""The suite that a stream's channel passes, for ours and for third parties'. Needs pytest.

Subclass `StreamContract` in a test module, with one fixture that returns a channel whose topics nobody else
uses::

    class TestMine(StreamContract):
        @pytest.fixture
        def channel(self):
            return MyChannel(...)

What the class variables say of a channel decides which tests it gets.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from isthmus.connectors.file import FileConnector
from isthmus.errors import (
    BrokenError,
    CapabilityError,
    ClosedError,
    CodecError,
    IsthmusError,
    RemoteError,
    SpecError,
    WaitTimeoutError,
)
from isthmus.proxy import extract, is_proxy, is_resolved
from isthmus.store import Store
from isthmus.stream import (
    AcknowledgingSubscriber,
    Channel,
    Publisher,
    StreamConsumer,
    StreamProducer,
    Subscriber,
    channels,
)
from isthmus.testing.peer import Peer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["StreamContract", "consume_all", "send_some"]

SOON = 30.0  # seconds that what must come may take on a busy machine


def send_some(
    _: None, channel: Channel, store: Store, numbers: list[int], evict: bool, die_after: int = 0
) -> int:
    """Send numbers, for a `Peer`, and return how many; die by SIGKILL after some if asked to."""
    import os
    import signal

    with StreamProducer(channel.publisher(), store, inline_bytes=0, evict=evict) as producer:
        for count, number in enumerate(numbers, 1):
            producer.send("t", [number, bytes(100)])
            if count == die_after:
                producer.flush()
                os.kill(os.getpid(), signal.SIGKILL)
    return len(numbers)


def consume_all(
    _: None, channel: Channel, group: str | None, seen: str, die_after: int = 0
) -> list[int]:
    """Use items until the end, for a `Peer`, noting each in a file; die by SIGKILL at one if asked to."""
    import os
    import signal

    numbers: list[int] = []
    subscriber = channel.subscriber("t", group=group)
    with open(seen, "a") as file, StreamConsumer(subscriber, timeout=SOON) as consumer:
        for number, _ in consumer.iter_objects():
            if len(numbers) == die_after > 0:  # at this item, before it was used
                os.kill(os.getpid(), signal.SIGKILL)
            numbers.append(number)
            file.write(f"{number}\n")
            file.flush()
    return numbers


class StreamContract:
    """What every channel promises."""

    crosses_processes: ClassVar[bool] = True
    """Whether another process reaches the same topics."""
    keeps: ClassVar[bool] = True
    """Whether messages wait for a subscriber that comes later."""
    group: ClassVar[str | None] = None
    """The group that subscribers share topics in; None: by themselves."""
    shares: ClassVar[bool] = True
    """Whether each message goes to one of several such subscribers, rather than to all."""
    acknowledges: ClassVar[bool] = True

    @pytest.fixture
    def channel(self) -> Channel:
        """Return a channel of its own for the test; to be overridden."""
        raise pytest.UsageError(f"{type(self).__name__} has no fixture `channel`")

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        with Store(None, FileConnector(str(tmp_path / "objects"))) as store:
            yield store

    def consumer(self, channel: Channel, *topics: str, **options: Any) -> StreamConsumer:
        subscriber = channel.subscriber(*(topics or ("t",)), group=self.group)
        return StreamConsumer(subscriber, **{"timeout": SOON, **options})

    def left(self, store: Store) -> int:
        return len(list(store.connector.list()))  # type: ignore[attr-defined]

    # The plug

    def test_is_found_by_its_kind(self, channel: Channel) -> None:
        assert channels.get(channel.kind) is type(channel)
        assert isinstance(channel, Channel)
        assert type(channel).from_config(channel.config()).spec == channel.spec
        assert pickle.loads(pickle.dumps(channel)).spec == channel.spec
        assert channel.loses

    def test_has_a_publisher_and_a_subscriber(self, channel: Channel) -> None:
        publisher = channel.publisher()
        subscriber = channel.subscriber("t", group=self.group)
        assert isinstance(publisher, Publisher)
        assert isinstance(subscriber, Subscriber)
        assert isinstance(subscriber, AcknowledgingSubscriber) == self.acknowledges
        assert subscriber.topics == ("t",)
        for one in (publisher, subscriber):
            one.close()
            one.close()
        with pytest.raises(ClosedError):
            publisher.send("t", b"x")
        with pytest.raises(ClosedError):
            subscriber.next_events(0)

    @pytest.mark.parametrize("name", ["", "a b", "a:b", "x" * 121, "ä"])
    def test_refuses_names_that_not_every_channel_could_keep(
        self, channel: Channel, name: str
    ) -> None:
        with pytest.raises(SpecError, match="ASCII"):
            channel.subscriber(name)
        with (
            StreamProducer(channel.publisher(), None) as producer,
            pytest.raises(SpecError, match="ASCII"),
        ):
            producer.send(name, 1)

    def test_an_empty_topic_times_out(self, channel: Channel) -> None:
        with (
            self.consumer(channel, timeout=0.05) as consumer,
            pytest.raises(WaitTimeoutError, match="an item of t"),
        ):
            next(consumer)

    # Items

    @pytest.mark.parametrize("stored", [False, True])
    @pytest.mark.parametrize("batch_items", [1, 7])
    def test_all_items_come_in_order(
        self, channel: Channel, store: Store, stored: bool, batch_items: int
    ) -> None:
        with self.consumer(channel) as consumer:
            with StreamProducer(
                channel.publisher(),
                store,
                inline_bytes=0 if stored else 1 << 20,
                batch_items=batch_items,
            ) as producer:
                for n in range(40):
                    producer.send("t", {"n": n}, metadata={"square": n * n, "who": "ä"})
                    assert self.left(store) == (n + 1 if stored else 0)
            found: list[int] = []
            kind: type = dict
            for item in consumer.items():
                assert item.topic == "t"
                assert item.metadata == {"square": item.number**2, "who": "ä"}
                assert is_proxy(item.proxy)
                assert not is_resolved(item.proxy)
                assert isinstance(item.proxy, kind)  # told without a look at the object
                assert not is_resolved(item.proxy)
                found.append(item.object["n"])
                assert is_resolved(item.proxy)
        assert found == list(range(40))
        assert self.left(store) == 0
        assert consumer.missed == consumer.repeated == 0

    def test_the_forms_of_iteration(self, channel: Channel, store: Store) -> None:
        with self.consumer(channel) as consumer:
            with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
                for n in range(5):
                    producer.send("t", [n], metadata={"n": n})
            proxy = next(consumer)
            assert is_proxy(proxy)
            assert extract(proxy) == [0]
            metadata, proxy = next(consumer.iter_with_metadata())
            assert metadata == {"n": 1}
            assert is_proxy(proxy)
            assert extract(proxy) == [1]
            obj = next(consumer.iter_objects())
            assert type(obj) is list
            assert next(consumer.iter_objects_with_metadata()) == ({"n": 3}, [3])
            assert next(consumer.items()).object == [4]
            with pytest.raises(StopIteration):
                next(consumer)
            with pytest.raises(StopIteration):
                next(consumer)
        assert self.left(store) == 0

    def test_iterates_in_an_event_loop(self, channel: Channel, store: Store) -> None:
        async def main() -> list[Any]:
            with self.consumer(channel) as consumer:
                beats = 0

                async def beat() -> None:
                    nonlocal beats
                    while True:
                        beats += 1
                        await asyncio.sleep(0)

                beating = asyncio.create_task(beat())
                # Nothing is there yet: a wait that is cancelled loses nothing.
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(consumer), 0.05)
                with StreamProducer(channel.publisher(), store) as producer:
                    for n in range(20):
                        producer.send("t", n)
                found = [n async for n in consumer.iter_objects()]
                beating.cancel()
                assert beats > 1
                return found

        assert asyncio.run(main()) == list(range(20))

    def test_topics_are_apart(self, channel: Channel, store: Store) -> None:
        with (
            self.consumer(channel, "a") as one,
            self.consumer(channel, "b.c", "d-e") as two,
            StreamProducer(
                channel.publisher(), {"a": store, "b.c": None, "d-e": store}
            ) as producer,
        ):
            producer.send("a", 1)
            producer.send("b.c", bytes(10_000))
            producer.send("d-e", 3)
            with pytest.raises(SpecError, match="no store"):
                producer.send("other", 1)
            producer.close_topics("a", "b.c")
            with pytest.raises(ClosedError, match="topic 'a'"):
                producer.send("a", 2)
            assert list(one.iter_objects()) == [1]
            producer.close_topics("d-e")
            found = sorted((i.topic, i.object) for i in two.items())
            assert found == [("b.c", bytes(10_000)), ("d-e", 3)]

    def test_batches_go_in_time(self, channel: Channel) -> None:
        with self.consumer(channel, producers=2) as consumer:
            with StreamProducer(
                channel.publisher(), None, batch_items=1000, batch_seconds=0.01
            ) as producer:
                producer.send("t", 1)
                producer.send("t", 2)
                objects = consumer.iter_objects()
                assert [next(objects), next(objects)] == [1, 2]  # nobody flushed
            with StreamProducer(
                channel.publisher(), None, batch_items=1000, batch_bytes=100, batch_seconds=None
            ) as producer:
                producer.send("t", bytes(200))
                producer.flush()
                assert next(objects) == bytes(200)
                producer.send("t", 4)
                producer.flush("t")
                assert next(objects) == 4

    def test_filters_samples_and_aggregates(self, channel: Channel, store: Store) -> None:
        with self.consumer(channel, filter=lambda m: m["items"][0]["n"] != 4) as consumer:
            with StreamProducer(
                channel.publisher(),
                store,
                inline_bytes=0,
                batch_items=2,
                batch_seconds=None,
                filter=lambda m: m["n"] % 2 == 0,
                sample=2,
                aggregate=sum,
            ) as producer:
                for n in range(20):
                    producer.send("t", n, metadata={"n": n})
            # Even ones, of these every other one: 0 4 8 12 16, and of these two at a time.
            found = list(consumer.iter_objects_with_metadata())
        assert found == [
            ({"items": [{"n": 0}, {"n": 4}]}, 4),
            ({"items": [{"n": 8}, {"n": 12}]}, 20),
            ({"items": [{"n": 16}]}, 16),
        ]
        assert self.left(store) == 0

    def test_what_is_filtered_out_goes(self, channel: Channel, store: Store) -> None:
        with self.consumer(channel, filter=lambda m: m["n"] > 2) as consumer:
            with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
                for n in range(5):
                    producer.send("t", n, metadata={"n": n})
            assert list(consumer.iter_objects()) == [3, 4]
        assert self.left(store) == 0

    def test_metadata_are_no_pickles(self, channel: Channel) -> None:
        with StreamProducer(channel.publisher(), None) as producer:
            for bad in ({"x": object()}, {"x": {1, 2}.__iter__()}, [1], {1: 2}):
                with pytest.raises(CodecError, match="msgpack"):
                    producer.send("t", 1, metadata=bad)  # type: ignore[arg-type]

    def test_a_serializer_of_ones_own(self, channel: Channel, store: Store) -> None:
        with self.consumer(channel) as consumer:
            with StreamProducer(channel.publisher(), store) as producer:
                for text in ("inline", "stored" * 1000):
                    producer.send("t", text, serializer=_shout, deserializer=_whisper)
            assert list(consumer.iter_objects()) == ["inline", "stored" * 1000]

    # The end

    def test_ends_when_all_producers_have(self, channel: Channel) -> None:
        with self.consumer(channel, producers=3) as consumer:
            producers = [StreamProducer(channel.publisher(), None) for _ in range(3)]
            for n, producer in enumerate(producers):
                producer.send("t", n)
            for producer in producers:
                producer.close()
                producer.close()
                with pytest.raises(ClosedError):
                    producer.send("t", 1)
            assert sorted(consumer.iter_objects()) == [0, 1, 2]

    def test_a_producer_that_fails_tells_its_consumers(self, channel: Channel) -> None:
        with self.consumer(channel) as consumer:
            producer = StreamProducer(channel.publisher(), None)
            with contextlib.suppress(ZeroDivisionError), producer:
                producer.send("t", 1)
                _ = 1 / 0
            objects = consumer.iter_objects()
            assert next(objects) == 1
            with pytest.raises(RemoteError, match="ZeroDivisionError"):
                next(objects)
            with pytest.raises(StopIteration):
                next(objects)

    def test_foreign_messages_are_refused(self, channel: Channel) -> None:
        with self.consumer(channel) as consumer:
            publisher = channel.publisher()
            publisher.send("t", pickle.dumps(print))
            publisher.flush()
            with pytest.raises(CodecError, match="not an event"):
                next(consumer)
            publisher.close()

    def test_closing_wakes_who_waits(self, channel: Channel) -> None:
        subscriber = channel.subscriber("t", group=self.group)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(subscriber.next_events)
            with pytest.raises(TimeoutError):
                waiting.result(0.05)
            subscriber.close()
            with pytest.raises((ClosedError, IsthmusError)):
                waiting.result(SOON)

    # Several

    def test_several_producers_and_consumers(self, channel: Channel, store: Store) -> None:
        def use(consumer: StreamConsumer) -> list[int]:
            with consumer:
                return list(consumer.iter_objects())

        def produce(base: int) -> None:
            with StreamProducer(
                channel.publisher(), store, inline_bytes=0, evict=self.shares
            ) as producer:
                for n in range(50):
                    producer.send("t", base + n)

        consumers = [self.consumer(channel, producers=3) for _ in range(3)]
        with ThreadPoolExecutor(6) as pool:
            using = [pool.submit(use, c) for c in consumers]
            list(pool.map(produce, (0, 100, 200)))
            found = [u.result(SOON) for u in using]
        sent = [base + n for base in (0, 100, 200) for n in range(50)]
        if self.shares:
            assert sorted(n for part in found for n in part) == sent
            assert self.left(store) == 0
        else:
            assert [sorted(part) for part in found] == [sent] * 3
            assert self.left(store) == 150
        for part in found:  # each producer's in its order
            for base in (0, 100, 200):
                mine = [n for n in part if base <= n < base + 100]
                assert mine == sorted(mine)

    def test_later_subscribers_get_what_waits(self, channel: Channel) -> None:
        if not self.keeps:
            pytest.skip("the channel keeps nothing")
        with StreamProducer(channel.publisher(), None) as producer:
            for n in range(5):
                producer.send("t", n)
        for expected in (list(range(5)), []):  # the second finds that all is over
            with self.consumer(channel) as consumer:
                found = list(consumer.iter_objects())
            assert found == (expected if self.shares else list(range(5)))
        channel.delete("t")
        channel.delete("t", "never-was")
        with self.consumer(channel) as consumer:
            with StreamProducer(channel.publisher(), None) as producer:
                producer.send("t", "anew")
            assert list(consumer.iter_objects()) == ["anew"]

    def test_says_what_it_cannot(self, channel: Channel) -> None:
        with pytest.raises(SpecError, match="at least one topic"):
            channel.subscriber()
        if self.group is None and not getattr(channel, "groups", False):
            with pytest.raises(CapabilityError, match="groups"):
                channel.subscriber("t", group="g")
        if not self.acknowledges:
            subscriber = channel.subscriber("t", group=self.group)
            with pytest.raises(CapabilityError, match="acknowledges"):
                StreamConsumer(subscriber, acknowledge="manual")
            subscriber.close()

    # Objects go

    def test_the_last_consumer_deletes(self, channel: Channel, store: Store) -> None:
        names = ["one", "two"]
        groups = names if self.group is not None else [None, None]
        if self.shares and self.group is None:
            pytest.skip("each item has one consumer")
        consumers = [
            StreamConsumer(channel.subscriber("t", group=g), name=n, timeout=SOON)
            for g, n in zip(groups, names, strict=True)
        ]
        with StreamProducer(
            channel.publisher(), store, inline_bytes=0, consumers=names
        ) as producer:
            for n in range(3):
                producer.send("t", n)
        with consumers[0] as consumer:
            assert list(consumer.iter_objects()) == [0, 1, 2]
        assert self.left(store) >= 3
        with consumers[1] as consumer:
            assert list(consumer.iter_objects()) == [0, 1, 2]
        assert self.left(store) == 0

    def test_a_proxy_that_travels_deletes_where_it_is_resolved(
        self, channel: Channel, store: Store
    ) -> None:
        with self.consumer(channel) as consumer:
            with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
                for n in range(3):
                    producer.send("t", [n])
            travelling = [pickle.dumps(proxy) for proxy in consumer]
        assert self.left(store) == 3
        with Peer() as peer:
            assert [peer.call(_first_of, data) for data in travelling] == [0, 1, 2]
        assert self.left(store) == 0

    def test_proxies_kept_for_later_delete_when_they_are_resolved(
        self, channel: Channel, store: Store
    ) -> None:
        with self.consumer(channel) as consumer:
            with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
                for n in range(4):
                    producer.send("t", [n])
                producer.send("t", "kept", evict=False)
            proxies: list[Any] = list(consumer)
            assert self.left(store) == 5
            assert [proxies[0][0], proxies[1][0]] == [0, 1]
            assert self.left(store) == 3
            proxies = proxies[4:]
            consumer.close()
            assert self.left(store) == 1
            assert proxies[0] == "kept"
            assert self.left(store) == 1

    def test_bytes_in_flight_are_bounded(self, channel: Channel, store: Store) -> None:
        sent = threading.Semaphore(0)

        def produce() -> None:
            with StreamProducer(
                channel.publisher(), store, max_in_flight_bytes=35_000, batch_items=100
            ) as producer:
                for n in range(12):
                    producer.send("t", bytes([n]) * 10_000)
                    sent.release()

        with self.consumer(channel) as consumer, ThreadPoolExecutor(1) as pool:
            producing = pool.submit(produce)
            for _ in range(3):
                assert sent.acquire(timeout=SOON)
            assert not sent.acquire(timeout=0.1)
            assert self.left(store) == 3
            found = []
            for obj in consumer.iter_objects():
                assert self.left(store) <= 4
                found.append(obj[0])
            producing.result(SOON)
        assert found == list(range(12))

    def test_who_waits_for_room_in_vain_is_told(self, channel: Channel, store: Store) -> None:
        with (
            self.consumer(channel),
            StreamProducer(
                channel.publisher(), store, max_in_flight_bytes=10, timeout=0.05
            ) as producer,
        ):
            producer.send("t", bytes(5000))  # larger than the bound: alone
            with pytest.raises(WaitTimeoutError, match="room for 5000 bytes"):
                producer.send("t", bytes(5000))

    # Acknowledging

    def _needs(self, acknowledging: bool) -> None:
        if self.acknowledges != acknowledging:
            pytest.skip("not what this channel does")

    def test_what_is_not_acknowledged_comes_again(self, channel: Channel, store: Store) -> None:
        self._needs(acknowledging=True)
        with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
            for n in range(4):
                producer.send("t", n)
        with contextlib.suppress(ZeroDivisionError), self.consumer(channel) as consumer:
            for n in consumer.iter_objects():
                _ = 1 / (2 - n)
        assert self.left(store) == 2  # 2 was not finished, 3 not begun
        with self.consumer(channel) as consumer:
            items = [(item.object, item.attempt > 1) for item in consumer.items()]
        assert dict(items)[2]  # in which order is not said
        assert sorted(dict(items)) == [2, 3]
        assert self.left(store) == 0

    def test_acknowledged_by_hand(self, channel: Channel, store: Store) -> None:
        self._needs(acknowledging=True)
        with (
            self.consumer(channel, acknowledge="manual") as consumer,
            StreamProducer(channel.publisher(), store, inline_bytes=0) as producer,
        ):
            for n in range(4):
                producer.send("t", n)
            items = consumer.items()
            kept = [next(items) for _ in range(4)]
            assert [item.object for item in kept] == [0, 1, 2, 3]
            assert self.left(store) == 4
            threads = [threading.Thread(target=item.acknowledge) for item in kept[:2]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            kept[0].acknowledge()
            kept[2].release()
            again = next(items)
            assert (again.object, again.attempt) == (2, 2)
            again.acknowledge()
        assert self.left(store) == 1  # 3 went back
        with self.consumer(channel) as consumer:
            assert list(consumer.iter_objects()) == [3]
        assert self.left(store) == 0

    def test_a_batch_is_acknowledged_as_one(self, channel: Channel, store: Store) -> None:
        self._needs(acknowledging=True)
        with StreamProducer(
            channel.publisher(), store, inline_bytes=0, batch_items=3, batch_seconds=None
        ) as producer:
            for n in range(3):
                producer.send("t", n)
        consumer = self.consumer(channel)
        objects = consumer.iter_objects()
        assert [next(objects), next(objects)] == [0, 1]
        consumer.close()
        assert self.left(store) == 1
        with self.consumer(channel) as consumer:
            assert list(consumer.iter_objects()) == [
                2
            ]  # the batch came again, and two were used up
            assert consumer.repeated == 2
        assert self.left(store) == 0

    # Kills

    def _processes(self) -> None:
        if not self.crosses_processes:
            pytest.skip("the channel ends with its process")

    def test_a_killed_consumer(self, channel: Channel, store: Store, tmp_path: Path) -> None:
        self._processes()
        self.kill_consumer(channel, store, str(tmp_path / "seen"), 60)

    def kill_consumer(self, channel: Channel, store: Store, seen: str, count: int) -> None:
        """Kill a consumer at its tenth item; another has the rest, or not, as the channel says."""
        sent = list(range(count))
        with Peer() as producing, Peer() as victim, Peer() as heir:
            victim.start(consume_all, channel, self.group, seen, 10)
            if self.keeps:
                producing.start(send_some, channel, store, sent, self.shares)
                with pytest.raises(EOFError):
                    victim.result(SOON)
                heir.start(consume_all, channel, self.group, seen)
                assert producing.result(SOON) == count
                found = heir.result(SOON)
            else:
                self.await_subscribers(channel, 1)
                producing.start(send_some, channel, store, sent, self.shares)
                with pytest.raises(EOFError):
                    victim.result(SOON)
                assert producing.result(SOON) == count
                found = []
        noted = _noted(seen)
        lost = sorted(set(sent) - set(noted))
        if self.acknowledges:
            assert lost == []
            assert 10 in found  # what the killed one had at hand
        elif not self.shares and self.keeps:
            assert found == sent  # for itself
        elif self.keeps:
            assert lost[0] == 10
            assert lost == sent[10 : 10 + len(lost)]  # what it had taken, and nothing else
            assert len(lost) <= 64
        else:
            assert lost == sent[10:]  # there was nobody else
        if self.acknowledges:
            assert self.left(store) == 0

    def await_subscribers(self, channel: Channel, count: int) -> None:
        """Wait until so many are subscribed, on channels that keep nothing; to be overridden there."""
        raise pytest.UsageError(f"{type(self).__name__} has no `await_subscribers`")

    def test_a_killed_producer(self, channel: Channel, store: Store) -> None:
        self._processes()
        self.kill_producer(channel, store, 60)

    def kill_producer(self, channel: Channel, store: Store, count: int) -> None:
        """Kill a producer when `flush` has returned: all that it had sent by then comes."""
        with self.consumer(channel) as consumer:
            with Peer() as victim:
                victim.start(send_some, channel, store, list(range(count)), True, count // 2)
                with pytest.raises(EOFError):
                    victim.result(SOON)
            with Peer() as heir:
                heir.start(send_some, channel, store, list(range(count // 2, count)), True)
                found = [n for n, _ in consumer.iter_objects()]
                heir.result(SOON)
        assert found == list(range(count))
        assert self.left(store) == 0

    # Cut connections

    def cut(self, channel: Channel) -> None:
        """Cut every connection to the server; to be overridden where there is one."""
        pytest.skip("there is no connection to cut")

    def test_cut_connections(self, channel: Channel, store: Store) -> None:
        self.cut_connections(channel, store, 90)

    def cut_connections(self, channel: Channel, store: Store, count: int) -> None:
        """Cut them twice, while items come and go."""
        third = count // 3
        again = 0
        with self.consumer(channel) as consumer, ThreadPoolExecutor(1) as pool:

            def use() -> list[int]:
                return [item.object for item in consumer.items()]

            using = pool.submit(use)
            with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
                for n in range(count):
                    if n and n % third == 0:
                        self.cut(channel)
                    try:
                        producer.send("t", n)
                    except BrokenError:
                        again += 1
                        producer.send("t", n)
            found = using.result(SOON)
        lost = set(range(count)) - set(found)
        if self.acknowledges or (self.keeps and not self.shares):
            assert not lost
            assert again == 0
        elif self.keeps:
            assert len(lost) <= 2 * 64
        else:
            assert len(lost) <= consumer.missed <= len(lost) + again
            assert count - 1 in found


def _shout(obj: str) -> bytes:
    return obj.upper().encode()


def _whisper(data: Any) -> str:
    return bytes(data).decode().lower()


def _first_of(_: object, data: bytes) -> int:
    first: int = pickle.loads(data)[0]
    return first


def _noted(path: str) -> list[int]:
    with open(path) as file:
        return [int(line) for line in file]
