"""Sends objects: the data into a store, an event about it into a channel."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from isthmus import codec
from isthmus.connectors import ReservingConnector
from isthmus.errors import CapabilityError, ClosedError, SpecError
from isthmus.store.serializers import Serializers
from isthmus.stream.batch import Pending
from isthmus.stream.channel import check_topic
from isthmus.stream.event import Item, pack_metadata
from isthmus.stream.flight import InFlight
from isthmus.stream.select import Filter, Selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from isthmus.store import Store
    from isthmus.stream.protocol import Publisher

__all__ = ["StreamProducer"]

_INLINE = 1024
_CODEC = Serializers(None, None)
_NO_METADATA = pack_metadata({})


class StreamProducer:
    """Puts objects into stores and sends events about them (dissertation, 4.3.2).

    Args:
        publisher: sends the events; closed with the producer.
        stores: keeps the objects: one store for every topic, or a store by topic. None, in either place,
            sends every object inline.
        batch_items: items in one message; 1 sends each at once.
        batch_bytes: of inline payloads and metadata, after which a message goes before it has all items.
        batch_seconds: after which it goes anyway; None lets it wait for `flush`.
        filter: gets an item's metadata; false drops the item.
        sample: fraction of the items to send, at random, or an integer n to send the first of every n.
        seed: makes the sample repeatable.
        aggregate: makes one object of the `batch_items` objects that it gets as a list, to be sent in their
            place. Their metadata travel as the list ``metadata["items"]``.
        inline_bytes: objects whose encoding has at most so many bytes travel in their event; 0: none.
        max_in_flight_bytes: bound on what is stored and not used up: `send` waits while there is more.
            Needs objects that are evicted.
        timeout: seconds that `send` waits for room at most.
        evict: delete objects after their last use.
        consumers: names of the consumers, or groups of them, that each use every item. Without them the
            first use is the last one.
        options: handed to the store's ``put`` with every object, such as a lease.

    Threads may share a producer. It belongs to the process that made it.
    """

    def __init__(
        self,
        publisher: Publisher,
        stores: Store | Mapping[str, Store | None] | None,
        *,
        batch_items: int = 1,
        batch_bytes: int = 1 << 16,
        batch_seconds: float | None = 0.01,
        filter: Filter | None = None,
        sample: float | int = 1,
        seed: int | None = None,
        aggregate: Callable[[list[Any]], Any] | None = None,
        inline_bytes: int = _INLINE,
        max_in_flight_bytes: int | None = None,
        timeout: float | None = None,
        evict: bool = True,
        consumers: Iterable[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if batch_items < 1 or batch_bytes < 1:
            raise SpecError("StreamProducer", "batch_items and batch_bytes must be at least 1")
        if isinstance(consumers, str):
            raise SpecError("StreamProducer", f"consumers is a list of names, got {consumers!r}")
        self._publisher = publisher
        self._stores = stores
        self._batch_items = batch_items
        self._batch_bytes = batch_bytes
        self._batch_seconds = batch_seconds
        self._selection = Selection(filter, sample, seed)
        self._aggregate = aggregate
        self._inline_bytes = inline_bytes
        self._flight = (
            None if max_in_flight_bytes is None else InFlight(max_in_flight_bytes, timeout)
        )
        self._evict = evict
        self._consumers = [check_topic(name, "consumer") for name in consumers]
        self._options = dict(options or {})
        self._id = os.urandom(6).hex()
        self._topics: dict[str, Pending] = {}
        self._lock = threading.RLock()
        self._due = threading.Condition(self._lock)
        self._clock: threading.Thread | None = None
        self._failure: Exception | None = None
        self._closed = False

    def send(
        self,
        topic: str,
        obj: Any,
        *,
        metadata: dict[str, Any] | None = None,
        evict: bool | None = None,
        serializer: codec.Serializer | None = None,
        deserializer: codec.Deserializer | None = None,
        **options: Any,
    ) -> None:
        """Send an object to the consumers of a topic.

        It is stored when this returns, so it may be changed then, unless it waits to be aggregated. Its
        event is sent as soon as the batch is full; what `flush` has returned for is as safe as the channel
        makes it.

        Args:
            topic: 1 to 120 ASCII letters, digits, and any of ``. _ -``.
            obj: any object that the serializer takes.
            metadata: travels with the event: a dictionary of what msgpack has.
            evict: delete the object after its last use; None as the producer does, or not at all where a
                lifetime decides.
            serializer: used for this object alone.
            deserializer: travels with the item, and is used where it is resolved.
            **options: handed to the store's ``put`` (an inline object has none of them): a lease, a
                lifetime, or what the connector takes.

        Raises:
            CodecError: the object or its metadata cannot be serialized.
            FullError: store or channel have no room for it.
            WaitTimeoutError: consumers did not make room in time.
            BrokenError: the channel did not take it, or something sent before.
            ClosedError: the producer, or this topic, was closed.
        """
        packed = _NO_METADATA if not metadata else pack_metadata(metadata)
        with self._lock:
            pending = self._pending(topic)
            if not (self._selection.all or self._selection.keeps(metadata or {})):
                return
        if self._aggregate is None:  # without the lock: threads store at the same time
            item = self._item(pending, obj, evict, serializer, deserializer, options)
            item.metadata = packed
        with self._lock:
            self._check()
            if self._aggregate is None:
                pending.add(item, obj)
            else:
                pending.hold(obj, metadata or {})
            if len(pending) >= self._batch_items or pending.bytes >= self._batch_bytes:
                self._send(pending)
            elif self._batch_seconds is not None and len(pending) == 1:
                self._wind()

    def flush(self, *topics: str) -> None:
        """Send what waits in batches, and wait until the channel has all that was sent.

        Args:
            topics: whose batches to send; all if none is named.
        """
        with self._lock:
            self._check()
            for pending in [self._topics[t] for t in topics or self._topics if t in self._topics]:
                self._send(pending)
        self._publisher.flush()

    def close_topics(self, *topics: str) -> None:
        """End topics: consumers are told when they have had all items; nothing more can be sent."""
        self._end(topics, None)

    def close(self, *, end: bool = True) -> None:
        """Send what waits, end the topics that were sent to, and close the publisher; idempotent.

        Stores stay open, and keep what was sent.

        Args:
            end: False leaves the topics open, for other producers or a later one.
        """
        self._close(None, end)

    def _close(self, failure: BaseException | None, end: bool) -> None:
        with self._lock:
            if self._closed:
                return
        try:
            if end:
                self._end(list(self._topics), failure)
            else:
                self.flush()
        finally:
            with self._lock:
                self._closed = True
                self._due.notify_all()
            if self._clock is not None:
                self._clock.join()
            self._publisher.close()

    def _end(self, topics: Sequence[str], failure: BaseException | None) -> None:
        with self._lock:
            for topic in topics:
                if topic in self._topics and self._topics[topic].ended:
                    continue
                pending = self._pending(topic)
                self._send(pending)
                self._publisher.flush()
                self._publisher.end(topic, pending.last_word(failure))
                pending.ended = True

    # Items

    def _pending(self, topic: str) -> Pending:
        self._check()
        pending = self._topics.get(topic)
        if pending is None:
            check_topic(topic)
            store = self._stores
            if isinstance(store, Mapping):
                if topic not in store:
                    raise SpecError(
                        f"topic {topic!r}",
                        f"it has no store among those of {sorted(store)}; None sends objects inline",
                    )
                store = store[topic]
            pending = self._topics[topic] = Pending(self._id, topic, store)
        elif pending.ended:
            raise ClosedError(f"topic {topic!r} of this producer")
        return pending

    def _item(
        self,
        pending: Pending,
        obj: Any,
        evict: bool | None,
        serializer: codec.Serializer | None,
        deserializer: codec.Deserializer | None,
        options: dict[str, Any],
    ) -> Item:
        store = pending.store
        packed = None if deserializer is None else codec.pack_callable(deserializer)
        size = _size(obj)
        if store is None or self._wants_encoding(size):
            pieces = (_CODEC if store is None else store._serializers).encode(obj, serializer)
            size = codec.size(pieces)
            if store is None or size <= self._inline_bytes:
                packed = packed or pending.deserializer
                return Item(codec.join(pieces), None, size, deserializer=packed)
            serializer = lambda _: pieces  # noqa: E731 - encoded already
        evicted = self._evict and "lifetime" not in options if evict is None else evict
        if self._flight is not None and evicted and self._flight.full(size):
            with self._lock:  # nobody can use up what was not sent
                for other in self._topics.values():
                    self._send(other)
            self._publisher.flush()
            self._flight.wait(size)
        key = store.put(obj, serializer=serializer, **{**self._options, **options})
        if self._flight is not None and evicted:
            self._flight.add(store, key, size)
        uses = self._uses(store) if evicted and self._consumers else None
        return Item(None, list(key), size, evict=evicted, uses=uses, deserializer=packed)

    def _wants_encoding(self, size: int) -> bool:
        """Whether an object's size has to be known better than its looks tell; 0: they tell nothing."""
        if size > self._inline_bytes:
            return False
        return self._inline_bytes > 0 or (self._flight is not None and size == 0)

    def _uses(self, store: Store) -> dict[str, list[Any]]:
        connector = store.connector
        if not isinstance(connector, ReservingConnector):
            raise CapabilityError(repr(connector), ReservingConnector.__name__)
        return {name: list(connector.reserve()) for name in self._consumers}

    # Batches

    def _send(self, pending: Pending) -> None:
        if pending.objects:
            assert self._aggregate is not None
            held, pending.objects = pending.objects, []
            combined = self._aggregate([obj for obj, _ in held])
            item = self._item(pending, combined, None, None, None, {})
            item.metadata = pack_metadata({"items": [metadata for _, metadata in held]})
            pending.add(item, combined)
        if len(pending):
            self._publisher.send(pending.topic, pending.pack())

    def _wind(self) -> None:
        """See to it that a batch is sent in time."""
        if self._clock is None:
            self._clock = threading.Thread(
                target=self._tick, name="isthmus-stream-batches", daemon=True
            )
            self._clock.start()
        else:
            self._due.notify()

    def _tick(self) -> None:
        assert self._batch_seconds is not None
        with self._lock:
            while not self._closed:
                now = time.monotonic()
                left = None
                for pending in list(self._topics.values()):
                    if not len(pending):
                        continue
                    due = pending.since + self._batch_seconds - now
                    if due > 0:
                        left = due if left is None else min(left, due)
                        continue
                    try:
                        self._send(pending)
                    except Exception as error:
                        self._failure = self._failure or error
                self._due.wait(left)

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("StreamProducer")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the topics; consumers of a producer that failed are told of its error."""
        self._close(error, end=True)


def _size(obj: Any) -> int:
    """Return about how many bytes an object's encoding has, 0 if it does not look like any number."""
    if isinstance(obj, bytes | bytearray | str):
        return len(obj)
    size = getattr(obj, "nbytes", 0)
    return size if isinstance(size, int) else 0
