"""What the proxies of a stream's items resolve with, and when the objects beneath them go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from isthmus import codec
from isthmus.connectors import ReservingConnector
from isthmus.errors import CapabilityError
from isthmus.store import StoreFactory
from isthmus.store.store import reopen

if TYPE_CHECKING:
    from collections import deque

    from isthmus.proxy import TargetClass

__all__ = ["InlineFactory", "StreamFactory", "Use"]

T = TypeVar("T")


class InlineFactory(Generic[T]):
    """Returns an object that came with its event, decoded when it is asked for.

    Args:
        payload: the object's encoding.
        deserializer: in packed form, None for the codec.
    """

    __slots__ = ("deserializer", "payload")

    def __init__(self, payload: bytes, deserializer: str | None = None) -> None:
        self.payload = payload
        self.deserializer = deserializer

    def __call__(self) -> T:
        """Return the object.

        Raises:
            CodecError: the payload is damaged.
        """
        load = codec.decode if self.deserializer is None else codec.load_callable(self.deserializer)
        return load(self.payload)  # type: ignore[no-any-return]

    def __reduce__(self) -> tuple[Any, ...]:
        return InlineFactory, (self.payload, self.deserializer)

    def __proxy_repr__(self) -> str:
        return f"inline object of {len(self.payload)} bytes"


class Use:
    """One consumer's use of one stored object that is to be deleted after its last.

    It ends in one of three ways. The object was resolved in this process and its item is done with: it is
    deleted then. It was not resolved when its item was done with: whoever resolves it deletes it, here or
    where its proxy travelled. Nobody will: its proxy was left behind, and it is deleted at the consumer's
    next step.

    Args:
        identity: of the object's store, as in a proxy.
        key: of the object.
        uses: keys that mark it as done with, by the names of all its consumers; None for one consumer.
        name: of this consumer.
        by_hand: deleted when its item is acknowledged, resolved or not.
        left_behind: where uses go whose proxy was collected.
    """

    __slots__ = (
        "_by_hand",
        "_left_behind",
        "_name",
        "_uses",
        "ended",
        "identity",
        "key",
        "over",
        "resolved",
        "travelled",
    )

    def __init__(
        self,
        identity: bytes,
        key: tuple[Any, ...],
        uses: dict[str, list[Any]] | None,
        name: str | None,
        by_hand: bool,
        left_behind: deque[Use],
    ) -> None:
        self.identity = identity
        self.key = key
        self._uses = uses
        self._name = name
        self._by_hand = by_hand
        self._left_behind = left_behind
        self.resolved = False
        self.travelled = False
        self.over = False
        """Whether the item is done with."""
        self.ended = False

    @property
    def by_whoever_resolves(self) -> bool:
        """Whether a proxy that travels on takes the duty to delete with it."""
        return not self._by_hand and self._uses is None

    def end(self) -> None:
        """The item is done with."""
        self.over = True
        if self._by_hand or (self.resolved and not self.travelled):
            self.finish()

    def finish(self) -> None:
        """Delete the object, or be one of those who have used it."""
        if self.ended:
            return
        self.ended = True
        store, key = reopen(self.identity), self.key
        if self._uses is None:
            store.evict(key)
            return
        connector = store.connector
        if not isinstance(connector, ReservingConnector):
            raise CapabilityError(repr(connector), ReservingConnector.__name__)
        marks = self._marks()
        mine = marks.get(self._name or "")
        if mine is not None:
            connector.put_at(mine, b"1")
            # Two who finish together both see all, and delete the same.
            if all(connector.exists(mark) for mark in marks.values()):
                for mark in marks.values():
                    connector.evict(mark)
                store.evict(key)

    def used_up(self) -> bool:
        """Whether this consumer, or who shares its topic with it, was done with the object before."""
        store = reopen(self.identity)
        if not store.exists(self.key):
            return True
        mine = self._marks().get(self._name or "")
        return mine is not None and store.exists(mine)

    def _marks(self) -> dict[str, tuple[Any, ...]]:
        store = reopen(self.identity)
        return {name: store._own(tuple(mark)) for name, mark in (self._uses or {}).items()}

    def left(self) -> None:
        """The proxy was collected; no I/O here, for it happens at any line of any thread."""
        if not (self.travelled or self.ended):
            self._left_behind.append(self)


class StreamFactory(StoreFactory[T]):
    """A store's factory that knows what its item's consumer has done with it."""

    __slots__ = ("use",)

    use: Use

    def _fetch(self) -> T:
        found = super()._fetch()
        self.use.resolved = True
        if self.use.over and not self.use.travelled:
            self.use.finish()
        return found

    def to_wire(self, about: TargetClass | None) -> bytes:
        """Return what travels: who resolves it elsewhere deletes the object, unless it is by hand."""
        self.use.travelled = True
        self.evict = self.use.by_whoever_resolves
        try:
            return super().to_wire(about)
        finally:
            self.evict = False

    def __del__(self) -> None:
        self.use.left()
