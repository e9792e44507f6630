"""What every channel does the same way: configuration, and the names of topics."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from isthmus.errors import CapabilityError, SpecError
from isthmus.spec import Plugin

if TYPE_CHECKING:
    from isthmus.spec import Spec
    from isthmus.stream.protocol import Publisher, Subscriber

__all__ = ["ChannelHandle", "check_topic"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,120}")


class ChannelHandle(Plugin, ABC):
    """The part of a channel that needs no backend.

    A subclass sets `kind`, `spec_type`, `loses`, and whether it has `groups` and a `replay`.
    """

    kind: ClassVar[str]
    spec_type: ClassVar[type[Spec]]
    loses: ClassVar[str]
    groups: ClassVar[bool] = False
    """Whether several groups of consumers each get every message."""
    replay: ClassVar[bool] = False
    """Whether a subscriber can start from any position."""

    @abstractmethod
    def publisher(self) -> Publisher:
        """Connect to send."""

    def subscriber(self, *topics: str, group: str | None = None, start: int = 0) -> Subscriber:
        """Connect to receive: see `isthmus.stream.Channel`."""
        if not topics:
            raise SpecError(repr(self), "name at least one topic to subscribe to")
        for topic in topics:
            check_topic(topic)
        if group is not None:
            if not self.groups:
                raise CapabilityError(repr(self), "channel with consumer groups")
            check_topic(group, "group")
        if start and not self.replay:
            raise CapabilityError(repr(self), "channel with a replay")
        return self._subscriber(tuple(dict.fromkeys(topics)), group, start)

    @abstractmethod
    def _subscriber(self, topics: tuple[str, ...], group: str | None, start: int) -> Subscriber: ...

    def delete(self, *topics: str) -> None:
        """Forget all that is kept of topics; no error if there is none."""
        for topic in topics:
            check_topic(topic)
        self._delete(topics)

    def _delete(self, topics: tuple[str, ...]) -> None:
        """Delete; nothing to do where nothing is kept."""


def check_topic(name: str, what: str = "topic") -> str:
    """Return the name of a topic, refused if not every channel could keep it.

    Raises:
        SpecError: says what a name is made of.
    """
    given: object = name
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise SpecError(
            what, f"a name has 1 to 120 ASCII letters, digits, and any of . _ -, got {name!r}"
        )
    return given
