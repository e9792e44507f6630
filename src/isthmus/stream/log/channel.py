"""One adaptor for every broker of logs: a topic is a log, and a second one of those who ended it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from isthmus.broker import Broker, brokers
from isthmus.errors import SpecError
from isthmus.net.bridge import bridge
from isthmus.spec import Spec
from isthmus.stream.channel import ChannelHandle, check_topic
from isthmus.stream.log.publisher import LogPublisher
from isthmus.stream.log.subscriber import GroupSubscriber, LogSubscriber

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ENDS", "LogChannel", "LogChannelSpec"]

ENDS = ":ends"
"""What a topic's second log is called behind its name; no topic has a colon."""


class LogChannelSpec(Spec):
    """Which logs a `LogChannel` uses, and how."""

    broker: str
    """Kind of the broker."""
    options: dict[str, Any] = {}  # noqa: RUF012 - msgspec makes each its own
    """Its constructor's arguments."""
    groups: tuple[str, ...] = ()
    """Groups that have to use each item before it may be forgotten; made with the topic."""
    max_records: int | None = None
    """Messages that are kept for them in each topic; who sends more waits."""
    max_bytes: int | None = None
    """Bytes, likewise."""
    ack_wait: float = 30.0
    """Seconds after which what a killed consumer had is given to another of its group."""
    prefetch: int = 64
    """Messages that a subscriber takes ahead."""
    patience: float = 30.0
    """Seconds to go on trying while the broker does not answer."""


class LogChannel(ChannelHandle):
    """Every group gets every message, each of which goes to one of its consumers until it is acknowledged.

    A subscriber without a group reads by itself, from any position: a replay. A topic that was ended stays
    so until it is deleted. Without bounds nothing is forgotten; with them, what all `groups` are done with.

    Args:
        broker: where the logs are, or the kind of broker.
        options: arguments of the broker's constructor, where its kind was given.
        groups: see `LogChannelSpec`, as for the rest.
    """

    kind = "log"
    spec_type = LogChannelSpec
    groups = True
    replay = True
    loses: ClassVar[str] = (
        "producer: nothing that `flush` returned for, of what came after some may be there; connection:"
        " nothing (what was being sent may come twice); consumer: nothing (what it had not acknowledged"
        " comes again, to another of its group after `ack_wait`); server: what its broker's `durability`"
        " says"
    )

    def __init__(
        self,
        broker: Broker | str,
        options: Mapping[str, Any] | None = None,
        *,
        groups: Sequence[str] = (),
        max_records: int | None = None,
        max_bytes: int | None = None,
        ack_wait: float = 30.0,
        prefetch: int = 64,
        patience: float = 30.0,
    ) -> None:
        kind = broker if isinstance(broker, str) else broker.kind
        if not isinstance(broker, str):
            options = broker.config()
        if (max_records or max_bytes) and not groups:
            raise SpecError(
                "LogChannel", "bounds need groups: what they are all done with is what is forgotten"
            )
        if isinstance(groups, str):
            raise SpecError("LogChannel", f"groups is a list of names, got {groups!r}")
        for group in groups:
            check_topic(group, "group")
        if prefetch < 1 or ack_wait <= 0 or patience < 0:
            raise SpecError("LogChannel", "prefetch, ack_wait and patience must be positive")
        super().__init__(
            LogChannelSpec(
                kind,
                dict(options or {}),
                tuple(groups),
                max_records,
                max_bytes,
                ack_wait,
                prefetch,
                patience,
            )
        )

    @property
    def log_spec(self) -> LogChannelSpec:
        """The spec, with its own type."""
        assert isinstance(self._spec, LogChannelSpec)
        return self._spec

    def _broker(self) -> Broker:
        return brokers.get(self.log_spec.broker).from_config(self.log_spec.options)

    def publisher(self) -> LogPublisher:
        """Return what sends."""
        return LogPublisher(self._broker(), self.log_spec, ENDS)

    def _subscriber(self, topics: tuple[str, ...], group: str | None, start: int) -> LogSubscriber:
        if group is None:
            return LogSubscriber(self._broker(), self.log_spec, ENDS, topics, start)
        return GroupSubscriber(self._broker(), self.log_spec, ENDS, topics, group, start)

    def _delete(self, topics: tuple[str, ...]) -> None:
        async def delete() -> None:
            async with self._broker() as broker:
                for topic in topics:
                    for name in (topic, topic + ENDS):
                        await (await broker.open(name)).delete()

        bridge.run(delete())
