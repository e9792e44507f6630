"""What carries the events of streams: channels, their publishers and their subscribers.

A message is opaque here. What it says is `isthmus.stream.event`'s business, and no channel decodes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from isthmus.spec import Spec

__all__ = ["AcknowledgingSubscriber", "Channel", "Message", "Publisher", "Subscriber"]


class Message(NamedTuple):
    """What a subscriber hands over."""

    topic: str
    data: bytes
    token: Any = None
    """What `acknowledge` takes; None where nothing is acknowledged."""
    attempt: int = 1
    """How often it was delivered, this time included, as far as the channel counts."""
    position: int = 0
    """Where a replay could go on, on channels that have one; 0 elsewhere."""


@runtime_checkable
class Publisher(Protocol):
    """Sends messages. Threads may share one; what one thread sends to a topic arrives in its order."""

    def send(self, topic: str, message: bytes) -> None:
        """Take a message; returns as soon as the next may follow, and waits where the channel is full.

        What `flush` has returned for is as safe as the channel makes it.

        Raises:
            BrokenError: the channel did not take this message, or one before it.
            FullError: it has no room, and none will come.
        """
        ...

    def flush(self) -> None:
        """Wait until the channel has every message sent before; raises as `send` does."""
        ...

    def end(self, topic: str, message: bytes) -> None:
        """Send the last message of one producer: every consumer of the topic gets it, after all others."""
        ...

    def close(self) -> None:
        """Flush and release handles; idempotent; deletes nothing."""
        ...


@runtime_checkable
class Subscriber(Protocol):
    """Receives the messages of some topics; one thread at a time."""

    topics: tuple[str, ...]
    complete: bool
    """Whether it is to get every message itself, rather than share them with others."""
    group: str | None
    """Whose share it gets: the name of its group."""

    def next_events(self, timeout: float | None = None) -> list[Message]:
        """Wait for messages and return some, in order; an empty list after `timeout` seconds.

        Raises:
            BrokenError: the channel is gone and does not come back.
            ClosedError: it was closed, perhaps meanwhile.
        """
        ...

    def pass_on(self, topic: str) -> None:
        """Be told that this consumer has seen the end of a topic, which others may be waiting for."""
        ...

    def close(self) -> None:
        """Release handles and wake who waits; idempotent. What was not acknowledged goes back."""
        ...


@runtime_checkable
class AcknowledgingSubscriber(Subscriber, Protocol):
    """Gets a message again, or somebody else does, unless it is acknowledged."""

    counts: bool
    """Whether a message whose `attempt` is 1 is sure to come for the first time."""

    def acknowledge(self, tokens: Sequence[Any]) -> None:
        """Be done with messages; need not wait for the channel, but `close` does.

        Raises:
            BrokenError: the channel did not hear of this, or an earlier acknowledgement.
        """
        ...

    def release(self, tokens: Sequence[Any]) -> None:
        """Give messages back unfinished, for whoever reads next."""
        ...


@runtime_checkable
class Channel(Protocol):
    """Where a stream's events go: made without I/O from a spec, and pickled as that."""

    kind: ClassVar[str]
    loses: ClassVar[str]
    """What is lost when a producer, a connection or a consumer is killed, in words."""

    @property
    def spec(self) -> Spec:
        """What another process needs to reach the same streams."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain builtins."""
        ...

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make a channel from what `config` returned."""
        ...

    def publisher(self) -> Publisher:
        """Connect to send."""
        ...

    def subscriber(self, *topics: str, group: str | None = None, start: int = 0) -> Subscriber:
        """Connect to receive.

        Args:
            topics: at least one.
            group: share what comes with the other subscribers of this group.
            start: for who has no group, or a new one: what comes after this position; -1: what comes
                from now on.

        Raises:
            CapabilityError: the channel has no groups, or keeps nothing to start from.
        """
        ...

    def delete(self, *topics: str) -> None:
        """Forget all that is kept of topics; no error if there is none."""
        ...
