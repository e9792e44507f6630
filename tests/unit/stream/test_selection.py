"""Filters, samples, what is under way, and what producers and consumers refuse."""

from __future__ import annotations

import pytest

from isthmus.connectors.memory import MemoryConnector
from isthmus.errors import FullError, SpecError
from isthmus.store import Store
from isthmus.stream import StreamConsumer, StreamProducer
from isthmus.stream.flight import InFlight
from isthmus.stream.log import LogChannel
from isthmus.stream.memory import MemoryChannel
from isthmus.stream.redis import RedisQueueChannel
from isthmus.stream.select import Selection


def test_every_nth() -> None:
    every = Selection(sample=3)
    assert [n for n in range(10) if every.keeps({})] == [0, 3, 6, 9]


def test_a_fraction_is_repeatable_and_about_right() -> None:
    one, two = Selection(sample=0.3, seed=1), Selection(sample=0.3, seed=1)
    kept = [one.keeps({}) for _ in range(1000)]
    assert kept == [two.keeps({}) for _ in range(1000)]
    assert 200 < sum(kept) < 400


def test_the_filter_comes_first() -> None:
    both = Selection(lambda m: m["n"] % 2 == 0, 2)
    assert [n for n in range(10) if both.keeps({"n": n})] == [0, 4, 8]
    assert Selection().all
    assert not both.all


@pytest.mark.parametrize("sample", [0, -1, 1.5, -0.5])
def test_samples_that_cannot_be(sample: float) -> None:
    with pytest.raises(SpecError, match="sample"):
        Selection(sample=sample)


def test_in_flight_until_it_is_gone() -> None:
    with Store(None, MemoryConnector("flight")) as store:
        flight = InFlight(100, 0.01)
        keys = [store.put(bytes(10)) for _ in range(3)]
        for key in keys:
            flight.add(store, key, 40)
        assert flight.full(1)
        with pytest.raises(TimeoutError, match="room for 50 bytes beside the 120"):
            flight.wait(50)
        store.evict(keys[2])  # not the oldest
        flight.wait(20)
        assert flight.bytes == 80
        store.clear()
        flight.wait(1000)
        assert flight.bytes == 0


def test_what_is_refused() -> None:
    channel = MemoryChannel("refusals")
    for options in ({"batch_items": 0}, {"batch_bytes": 0}, {"consumers": "one"}, {"sample": 0}):
        with pytest.raises(SpecError):
            StreamProducer(channel.publisher(), None, **options)  # type: ignore[arg-type]
    subscriber = channel.subscriber("t")
    for options in ({"acknowledge": "never"}, {"producers": 0}):
        with pytest.raises(SpecError):
            StreamConsumer(subscriber, **options)  # type: ignore[arg-type]
    subscriber.close()
    with pytest.raises(SpecError):
        MemoryChannel("x", max_bytes=0)
    with pytest.raises(SpecError):
        RedisQueueChannel(prefetch=0)
    with pytest.raises(SpecError):
        RedisQueueChannel(hostnam="x")
    for options in ({"max_bytes": 1}, {"groups": "g"}, {"prefetch": 0}, {"ack_wait": 0}):
        with pytest.raises(SpecError):
            LogChannel("memory", **options)  # type: ignore[arg-type]


def test_a_bounded_queue_refuses_what_never_fits() -> None:
    publisher = MemoryChannel("bounded", max_bytes=10).publisher()
    with pytest.raises(FullError, match="up to 10 bytes"):
        publisher.send("t", bytes(11))
    publisher.close()
