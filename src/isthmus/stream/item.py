"""One item of a stream as its consumer has it, and the message that it came with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from isthmus.proxy import Proxy, TargetClass, extract
from isthmus.store import StoreFactory
from isthmus.stream.event import unpack_metadata
from isthmus.stream.factory import InlineFactory, StreamFactory, Use

if TYPE_CHECKING:
    from collections import deque

    from isthmus.stream.consumer import StreamConsumer
    from isthmus.stream.event import Batch, Item
    from isthmus.stream.protocol import Message

__all__ = ["Arrival", "StreamItem"]

T = TypeVar("T")

_UNKNOWN: Any = object()


class Arrival:
    """A message, and which of its items are done with.

    Args:
        message: as the subscriber gave it.
        batch: what it says.
        evict: whether objects go when their producer said so.
        name: of the consumer.
        by_hand: whether items are acknowledged by hand.
        left_behind: where the uses of collected proxies go.
    """

    __slots__ = ("_by_hand", "_evict", "_left_behind", "_name", "batch", "left", "message")

    def __init__(
        self,
        message: Message,
        batch: Batch,
        evict: bool,
        name: str | None,
        by_hand: bool,
        left_behind: deque[Use],
    ) -> None:
        self.message = message
        self.batch = batch
        self.left = len(batch.items)
        self._evict = evict
        self._name = name
        self._by_hand = by_hand
        self._left_behind = left_behind

    def factory(self, item: Item) -> InlineFactory[Any] | StoreFactory[Any]:
        """Return what resolves an item."""
        if item.payload is not None:
            return InlineFactory(item.payload, item.deserializer)
        batch = self.batch
        key, identity = tuple(item.key or ()), batch.store or b""
        if not (item.evict and self._evict):
            return StoreFactory(identity, key, deserializer=item.deserializer, made=batch.made)
        factory: StreamFactory[Any] = StreamFactory(
            identity, key, deserializer=item.deserializer, made=batch.made
        )
        factory.use = Use(identity, key, item.uses, self._name, self._by_hand, self._left_behind)
        return factory


class StreamItem(Generic[T]):
    """One object of a stream, and what its producer said of it."""

    __slots__ = (
        "_about",
        "_consumer",
        "_done",
        "_factory",
        "_item",
        "_object",
        "_proxy",
        "arrival",
        "index",
    )

    def __init__(self, arrival: Arrival, index: int, consumer: StreamConsumer) -> None:
        self.arrival = arrival
        self.index = index
        self._item = arrival.batch.items[index]
        self._consumer = consumer
        self._factory = arrival.factory(self._item)
        self._proxy: Proxy[T] | None = None
        self._object: Any = _UNKNOWN
        self._done = False

    @property
    def topic(self) -> str:
        """Where it was sent to."""
        return self.arrival.message.topic

    @property
    def metadata(self) -> dict[str, Any]:
        """What the producer said of it: a new dictionary each time."""
        return unpack_metadata(self._item.metadata)

    @property
    def proxy(self) -> Proxy[T]:
        """A proxy of the object."""
        if self._proxy is None:
            about = self._item.about
            classes = self.arrival.batch.classes
            known = TargetClass(*classes[about]) if 0 <= about < len(classes) else None
            self._proxy = Proxy(self._factory, known)
        return self._proxy

    @property
    def object(self) -> T:
        """The object itself, fetched when it is first asked for.

        Raises:
            MissingObjectError: the store does not hold it any more.
            CodecError: it cannot be decoded.
        """
        if self._proxy is not None:
            return extract(self._proxy)
        if self._object is _UNKNOWN:
            self._object = self._factory()
        return self._object  # type: ignore[no-any-return]

    @property
    def producer(self) -> str:
        """Who sent it: new for each `StreamProducer`."""
        return self.arrival.batch.producer

    @property
    def number(self) -> int:
        """Which of the items it is that its producer sent to the topic: from 0."""
        return self.arrival.batch.first + self.index

    @property
    def attempt(self) -> int:
        """How often it was delivered, this time included, as far as the channel counts."""
        return self.arrival.message.attempt

    @property
    def position(self) -> int:
        """Position of its message, from where a replay could go on; 0 where there is none."""
        return self.arrival.message.position

    @property
    def size(self) -> int:
        """Bytes of its encoding, as far as the producer knew."""
        return self._item.size

    def acknowledge(self) -> None:
        """Be done with it: it does not come again, and its object goes if its producer said so.

        Items that came in one message are acknowledged when all of them are. Until then those may come
        again whose objects are kept or inline. Any thread; idempotent.
        """
        self.finish()

    def release(self) -> None:
        """Give its message back, for whoever reads next; items of one message go together."""
        if not self._done:
            self._done = True
            self._consumer._give_back(self.arrival)

    def finish(self) -> None:
        """Count it among those that are done with."""
        if not self._done:
            self._done = True
            if isinstance(self._factory, StreamFactory):
                self._factory.use.end()
            self._consumer._item_done(self.arrival)

    def refuse(self) -> None:
        """Be done with it unseen: its object goes as if it had been used."""
        if isinstance(self._factory, StreamFactory):
            self._factory.use.resolved = True
        self.finish()

    def skip(self) -> None:
        """Be done with it for the second time; the object is the first one's."""
        if not self._done:
            self._done = True
            self._consumer._item_done(self.arrival)

    def used_up(self) -> bool:
        """Whether somebody has been done with it already: its object is gone, as its producer wished."""
        return isinstance(self._factory, StreamFactory) and self._factory.use.used_up()

    def __repr__(self) -> str:
        return f"<item {self.number} of {self.producer} in topic {self.topic!r}, {self.size} bytes>"
