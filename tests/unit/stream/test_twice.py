"""Messages that a channel sent twice, and producers whose channel fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from isthmus.connectors.memory import MemoryConnector
from isthmus.errors import BrokenError
from isthmus.store import Store
from isthmus.stream import StreamConsumer, StreamProducer
from isthmus.stream.memory import MemoryChannel, MemoryPublisher


class Stutter:
    """Sends every message twice; fails when told to."""

    def __init__(self, inner: MemoryPublisher) -> None:
        self.inner = inner
        self.broken = False
        self.closed = False

    def send(self, topic: str, message: bytes) -> None:
        if self.broken:
            raise BrokenError("channel", "it broke")
        self.inner.send(topic, message)
        self.inner.send(topic, message)

    def flush(self) -> None: ...

    def end(self, topic: str, message: bytes) -> None:
        self.inner.end(topic, message)
        self.inner.end(topic, message)

    def close(self) -> None:
        self.closed = True
        self.inner.close()


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(None, MemoryConnector("twice"), cache_size=0) as store:
        yield store
        store.clear()


@pytest.mark.parametrize("complete", [False, True])
def test_the_second_is_passed_over_and_leaves_the_object(store: Store, complete: bool) -> None:
    channel = MemoryChannel(f"twice-{complete}")
    subscriber = channel.subscriber("t")
    subscriber.complete = complete
    with StreamConsumer(subscriber, timeout=10) as consumer:
        with StreamProducer(Stutter(channel.publisher()), store, inline_bytes=0) as producer:
            for n in range(5):
                producer.send("t", n)
        assert list(consumer.iter_objects()) == list(range(5))
        assert (consumer.repeated, consumer.missed) == (5, 0)
    assert list(store.connector.list()) == []  # type: ignore[attr-defined]


def test_a_gap_is_counted(store: Store) -> None:
    channel = MemoryChannel("gap")
    inner = channel.publisher()
    kept: list[bytes] = []

    class Lossy(Stutter):
        def send(self, topic: str, message: bytes) -> None:
            kept.append(message)
            if len(kept) not in (2, 3, 5):
                inner.send(topic, message)

    subscriber = channel.subscriber("t")
    subscriber.complete = True
    with StreamConsumer(subscriber, timeout=10) as consumer:
        with StreamProducer(Lossy(inner), None) as producer:
            for n in range(5):
                producer.send("t", n)
        assert list(consumer.iter_objects()) == [0, 3]
        assert consumer.missed == 3


@pytest.mark.parametrize("batch_items", [1, 2])
def test_a_broken_channel_is_told_and_everything_closes(batch_items: int) -> None:
    publisher = Stutter(MemoryChannel("broken").publisher())
    producer = StreamProducer(publisher, None, batch_items=batch_items, batch_seconds=None)
    producer.send("t", 1)
    publisher.broken = True
    with pytest.raises(BrokenError, match="it broke"):
        producer.send("t", 2)
    if batch_items == 2:
        producer.close()
    else:
        producer.close(end=False)
    assert publisher.closed


def test_a_batch_that_cannot_go_is_told_at_the_next_call() -> None:
    publisher = Stutter(MemoryChannel("late").publisher())
    publisher.broken = True
    producer = StreamProducer(publisher, None, batch_items=100, batch_seconds=0.0)
    producer.send("t", 1)
    assert producer._clock is not None
    while producer._failure is None:  # the thread that sends batches in time
        producer._clock.join(0.001)
    with pytest.raises(BrokenError, match="it broke"):
        producer.flush()
    producer.close()
    assert publisher.closed
