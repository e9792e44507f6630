"""Receives items: proxies of objects that were sent, with what their producers said of them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from isthmus.errors import CapabilityError, ClosedError, RemoteError, SpecError, WaitTimeoutError
from isthmus.stream.event import Batch, End, decode
from isthmus.stream.item import Arrival, StreamItem
from isthmus.stream.protocol import AcknowledgingSubscriber
from isthmus.stream.select import Filter, Selection

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from isthmus.proxy import Proxy
    from isthmus.stream.factory import Use
    from isthmus.stream.protocol import Message, Subscriber

__all__ = ["StreamConsumer", "StreamItem"]

T = TypeVar("T")

_SLICE = 0.25  # seconds that a thread waits which nobody may need any more
_REMEMBERED = 4096  # messages, to know one that its producer had to send twice


class StreamConsumer:
    """Iterates over the items of a subscriber's topics, as proxies, until all of them have ended.

    Iterate with ``for`` or with ``async for``, over the consumer itself for proxies, or over what one
    of the ``iter_…`` methods returns.

    An item is done with when the next one is asked for, or when the consumer is closed without an error.
    Then it is acknowledged, where the channel knows that, and its object is deleted if the producer said
    so: at once if the proxy was resolved in this process, else by whoever resolves it, here or elsewhere.
    With ``acknowledge="manual"`` all of this happens in `StreamItem.acknowledge` and not before: the way
    for who hands proxies on to tasks that may fail.

    Payloads are decoded as the codec does it, which runs what producers say: consume streams only of
    producers, and from brokers, that you trust. Nothing is decoded before a proxy is resolved.

    Args:
        subscriber: receives the events; closed with the consumer.
        producers: how many producers end a topic before it is over.
        filter: gets an item's metadata; false passes the item over, as done with.
        sample: fraction of the items to take, at random, or an integer n to take the first of every n.
        seed: makes the sample repeatable.
        acknowledge: ``"next"`` or ``"manual"``.
        evict: False leaves every object where it is, whatever its producer said: for who only watches.
        name: of this consumer, where the producer names its ``consumers``; None for the name of its group.
        timeout: seconds to wait for an item at most; None waits for ever.

    One thread at a time may iterate; items may be acknowledged in any.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        *,
        producers: int = 1,
        filter: Filter | None = None,
        sample: float | int = 1,
        seed: int | None = None,
        acknowledge: Literal["next", "manual"] = "next",
        evict: bool = True,
        name: str | None = None,
        timeout: float | None = None,
    ) -> None:
        if acknowledge not in ("next", "manual"):
            raise SpecError("acknowledge", f'"next" or "manual", got {acknowledge!r}')
        if producers < 1:
            raise SpecError("producers", f"at least 1, got {producers}")
        self.missed = 0
        """Items that were sent and did not come, where this consumer is to get every one (see
        `Subscriber.complete`): what a channel that acknowledges nothing has lost."""
        self.repeated = 0
        """Items that came once more and were passed over, as seen before or used up."""
        self._subscriber = subscriber
        self._producers = producers
        self._selection = Selection(filter, sample, seed)
        self._by_hand = acknowledge == "manual"
        self._acknowledging = (
            subscriber if isinstance(subscriber, AcknowledgingSubscriber) else None
        )
        if self._by_hand and self._acknowledging is None:
            raise CapabilityError(repr(subscriber), "subscriber that acknowledges")
        self._doubtful = self._acknowledging is not None and not self._acknowledging.counts
        self._evict = evict
        self._name = name or subscriber.group
        self._timeout = timeout
        self._ready: deque[tuple[Arrival, int]] = deque()
        self._current: StreamItem[Any] | None = None
        self._open = set(subscriber.topics)
        self._ended: dict[str, dict[str, End]] = {topic: {} for topic in subscriber.topics}
        self._next: dict[tuple[str, str], int] = {}
        self._seen: dict[tuple[str, str, int], None] = {}
        self._left_behind: deque[Use] = deque()
        self._lock = threading.RLock()
        self._receiving = threading.Lock()
        self._closed = False

    # Iterating

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> Proxy[Any]:
        return self._step().proxy

    async def __anext__(self) -> Proxy[Any]:
        return (await self._step_async()).proxy

    def items(self) -> Items[StreamItem[Any]]:
        """Return an iterator, sync and async, over the items with all that is known of them."""
        return Items(self, lambda item: item)

    def iter_with_metadata(self) -> Items[tuple[dict[str, Any], Proxy[Any]]]:
        """Return an iterator, sync and async, over pairs of metadata and proxy."""
        return Items(self, lambda item: (item.metadata, item.proxy))

    def iter_objects(self) -> Items[Any]:
        """Return an iterator, sync and async, over the objects."""
        return Items(self, lambda item: item.object)

    def iter_objects_with_metadata(self) -> Items[tuple[dict[str, Any], Any]]:
        """Return an iterator, sync and async, over pairs of metadata and object."""
        return Items(self, lambda item: (item.metadata, item.object))

    def _step(self) -> StreamItem[Any]:
        self._finish_current()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            if (item := self._take()) is not None:
                return item
            if not self._open:
                self._stop()
                raise StopIteration
            self._receive(self._left(deadline))

    async def _step_async(self) -> StreamItem[Any]:
        self._finish_current()
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            if (item := self._take()) is not None:
                return item
            if not self._open:
                self._stop()
                raise StopAsyncIteration
            # In slices, and what comes is kept: nothing is lost with a call that was cancelled.
            left = self._left(deadline)
            await asyncio.to_thread(self._receive, _SLICE if left is None else min(left, _SLICE))

    def _left(self, deadline: float | None) -> float | None:
        if deadline is None:
            return None
        left = deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeoutError(f"an item of {', '.join(sorted(self._open))}", self._timeout)
        return left

    def _take(self) -> StreamItem[Any] | None:
        """Return the next item that has come and is wanted."""
        if self._closed:
            raise ClosedError("StreamConsumer")
        while self._ready:
            arrival, index = self._ready.popleft()
            item: StreamItem[Any] = StreamItem(arrival, index, self)
            if not self._selection.all and not self._selection.keeps(item.metadata):
                item.refuse()
                continue
            if (self._doubtful or arrival.message.attempt > 1) and item.used_up():
                self.repeated += 1
                item.skip()
                continue
            if not self._by_hand:
                self._current = item
            return item
        return None

    # Receiving

    def _receive(self, timeout: float | None) -> None:
        with self._receiving:
            if self._ready or self._closed:
                return  # a call that was cancelled has left something
            for message in self._subscriber.next_events(timeout):
                event = decode(message.data)
                if isinstance(event, End):
                    self._on_end(message, event)
                else:
                    self._on_batch(message, event)

    def _on_batch(self, message: Message, batch: Batch) -> None:
        skip = 0
        if self._subscriber.complete:
            whose = message.topic, batch.producer
            due = self._next.get(whose, batch.first)
            self.missed += max(0, batch.first - due)
            skip = min(max(0, due - batch.first), len(batch.items))
            self.repeated += skip
            self._next[whose] = max(due, batch.first + len(batch.items))
        elif message.attempt == 1 and self._came_before(message.topic, batch):
            skip = len(batch.items)
            self.repeated += skip
        arrival = Arrival(message, batch, self._evict, self._name, self._by_hand, self._left_behind)
        if not batch.items:
            self._done(arrival)
        for index in range(len(batch.items)):
            if index < skip:
                StreamItem(arrival, index, self).skip()
            else:
                self._ready.append((arrival, index))

    def _came_before(self, topic: str, batch: Batch) -> bool:
        """Whether the producer's channel sent a message twice, not knowing that it had arrived."""
        this = topic, batch.producer, batch.first
        if this in self._seen:
            return True
        self._seen[this] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return False

    def _on_end(self, message: Message, end: End) -> None:
        topic = message.topic
        if message.token is not None:
            self._acknowledge([message.token])
        if topic not in self._open or end.producer in self._ended[topic]:
            return
        self._ended[topic][end.producer] = end
        if self._subscriber.complete:
            self.missed += max(0, end.items - self._next.get((topic, end.producer), 0))
        if len(self._ended[topic]) >= self._producers:
            self._open.discard(topic)
            self._subscriber.pass_on(topic)

    # Done with items

    def _finish_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.finish()
        self._clear_away()

    def _item_done(self, arrival: Arrival) -> None:
        with self._lock:
            arrival.left -= 1
            if arrival.left == 0:
                self._done(arrival)

    def _done(self, arrival: Arrival) -> None:
        """All items of a message are done with.

        Their objects went before: who gets the message again, since we die here, finds them used up.
        """
        if arrival.message.token is not None:
            self._acknowledge([arrival.message.token])

    def _acknowledge(self, tokens: list[Any]) -> None:
        if self._acknowledging is not None:
            self._acknowledging.acknowledge(tokens)

    def _give_back(self, arrival: Arrival) -> None:
        if self._acknowledging is not None:
            self._acknowledging.release([arrival.message.token])

    def _clear_away(self) -> None:
        """Delete the objects whose proxies were left behind unresolved."""
        while self._left_behind:
            use = self._left_behind.popleft()
            if use.over:
                use.finish()

    def _stop(self) -> None:
        """All topics are over.

        Raises:
            RemoteError: a producer failed.
        """
        for ends in self._ended.values():
            for end in ends.values():
                if end.failure is not None:
                    failure, end.failure = end.failure, None
                    raise RemoteError(*failure)

    # Closing

    def close(self) -> None:
        """Be done with the item at hand, and close the subscriber; idempotent.

        What came and was not iterated over goes back; where nothing is acknowledged it is lost.
        """
        self._close(finish=True)

    def _close(self, *, finish: bool) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if finish:
                self._finish_current()
            self._current = None
            self._clear_away()
        finally:
            self._ready.clear()
            self._subscriber.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """After an error the item at hand goes back, where the channel acknowledges."""
        self._close(finish=error is None)


class Items(Generic[T]):
    """An iterator over a consumer's items, in one of their forms."""

    def __init__(self, consumer: StreamConsumer, form: Callable[[StreamItem[Any]], T]) -> None:
        self._consumer = consumer
        self._form = form

    def __iter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._form(self._consumer._step())

    async def __anext__(self) -> T:
        return self._form(await self._consumer._step_async())
