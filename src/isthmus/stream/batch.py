"""The items of one topic that a producer has not sent yet."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

from isthmus.proxy import TargetClass
from isthmus.stream.event import VERSION, Batch, End, Item, encode

if TYPE_CHECKING:
    from isthmus.store import Store

__all__ = ["Pending"]

_HOST = socket.gethostname()[:32]


class Pending:
    """Collects items until they are packed into one message.

    Args:
        producer: who sends them.
        topic: where to.
        store: keeps the objects; None for a topic whose objects all travel inline.
    """

    def __init__(self, producer: str, topic: str, store: Store | None) -> None:
        self.topic = topic
        self.store = store
        config = None if store is None else store.config()
        self.identity = None if config is None else config.pack()
        self.deserializer = None if config is None else config.deserializer
        """The store's own, which inline objects need as much."""
        self.sent = 0
        """Items in messages that were packed."""
        self.bytes = 0
        """Of what waits: payloads, and of metadata."""
        self.since = 0.0
        """When the oldest that waits came, on the monotonic clock."""
        self.objects: list[tuple[Any, dict[str, Any]]] = []
        """What waits to be aggregated, with its metadata."""
        self.ended = False
        self._producer = producer
        self._items: list[Item] = []
        self._classes: dict[tuple[str, str, int], int] = {}

    def __len__(self) -> int:
        return len(self._items) + len(self.objects)

    def add(self, item: Item, obj: Any) -> None:
        """Let an item wait with the others.

        Args:
            item: its event.
            obj: what it is about; looked at for its class alone.
        """
        if not self._items:
            self.since = time.monotonic()
        item.about = self._classes.setdefault(TargetClass.of(obj), len(self._classes))
        self._items.append(item)
        self.bytes += len(item.payload or b"") + len(bytes(item.metadata))

    def hold(self, obj: Any, metadata: dict[str, Any]) -> None:
        """Let an object wait to be aggregated."""
        if not self.objects:
            self.since = time.monotonic()
        self.objects.append((obj, metadata))

    def pack(self) -> bytes:
        """Return what waits as one message; nothing waits then."""
        items, self._items = self._items, []
        batch = Batch(
            VERSION,
            self._producer,
            self.sent,
            self.identity,
            (int(time.time()), _HOST),
            list(self._classes),
            items,
        )
        self.sent += len(items)
        self.bytes = 0
        self._classes = {}
        return encode(batch)

    def last_word(self, failure: BaseException | None) -> bytes:
        """Return the message that ends the topic."""
        why = None if failure is None else (type(failure).__qualname__, str(failure))
        return encode(End(VERSION, self._producer, self.sent, why))
