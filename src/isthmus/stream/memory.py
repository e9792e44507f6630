"""Streams between the threads of a process: a queue for each topic."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, ClassVar

from isthmus.errors import ClosedError, FullError, SpecError
from isthmus.spec import Spec
from isthmus.stream.channel import ChannelHandle, check_topic
from isthmus.stream.protocol import Message

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MemoryChannel", "MemoryChannelSpec"]

_AT_ONCE = 256  # messages handed over together


class MemoryChannelSpec(Spec):
    """Where a `MemoryChannel` keeps its queues."""

    name: str = "default"
    """Channels of one process with the same name share their topics."""
    max_bytes: int | None = None
    """Of messages that wait in one topic; who sends more waits."""


class _Topic:
    def __init__(self) -> None:
        self.waiting: deque[tuple[int, bytes, int]] = deque()  # number, message, attempt
        self.bytes = 0
        self.last = 0
        self.taken: dict[int, tuple[bytes, int]] = {}
        self.ends: list[bytes] = []


class _Space:
    def __init__(self) -> None:
        self.topics: dict[str, _Topic] = {}
        self.changed = threading.Condition()

    def topic(self, name: str) -> _Topic:
        return self.topics.setdefault(name, _Topic())


_spaces: dict[str, _Space] = {}


class MemoryChannel(ChannelHandle):
    """Each message goes to one subscriber of its topic, and waits until there is one.

    A topic that was ended stays so until it is deleted. Across processes nothing is seen: a channel that
    travels finds the queues of the process that it comes to.
    """

    kind = "memory"
    spec_type = MemoryChannelSpec
    loses: ClassVar[str] = (
        "producer, consumer: nothing, as threads (what a consumer did not acknowledge goes back when it is"
        " closed); process: everything"
    )

    def __init__(self, name: str = "default", max_bytes: int | None = None) -> None:
        if max_bytes is not None and max_bytes < 1:
            raise SpecError("MemoryChannel", f"max_bytes must be at least 1, got {max_bytes}")
        super().__init__(MemoryChannelSpec(name, max_bytes))
        self._space = _spaces.setdefault(name, _Space())
        self._max_bytes = max_bytes

    def publisher(self) -> MemoryPublisher:
        """Return what sends."""
        return MemoryPublisher(self._space, self._max_bytes)

    def _subscriber(
        self, topics: tuple[str, ...], group: str | None, start: int
    ) -> MemorySubscriber:
        return MemorySubscriber(self._space, topics)

    def _delete(self, topics: tuple[str, ...]) -> None:
        with self._space.changed:
            for topic in topics:
                self._space.topics.pop(topic, None)
            self._space.changed.notify_all()


class MemoryPublisher:
    """Puts messages into queues."""

    def __init__(self, space: _Space, max_bytes: int | None) -> None:
        self._space = space
        self._max_bytes = max_bytes
        self._closed = False

    def send(self, topic: str, message: bytes) -> None:
        check_topic(topic)
        size, limit = len(message), self._max_bytes
        if limit is not None and size > limit:
            raise FullError(f"topic {topic!r}", size, f"it takes messages up to {limit} bytes")
        with self._space.changed:
            while True:
                if self._closed:
                    raise ClosedError("MemoryPublisher")
                one = self._space.topic(topic)
                if limit is None or one.bytes + size <= limit:
                    break
                self._space.changed.wait()
            one.last += 1
            one.waiting.append((one.last, message, 1))
            one.bytes += size
            self._space.changed.notify_all()

    def flush(self) -> None: ...

    def end(self, topic: str, message: bytes) -> None:
        check_topic(topic)
        with self._space.changed:
            self._space.topic(topic).ends.append(message)
            self._space.changed.notify_all()

    def close(self) -> None:
        with self._space.changed:
            self._closed = True
            self._space.changed.notify_all()


class MemorySubscriber:
    """Takes messages out of queues; they go back unless they are acknowledged."""

    complete: bool = False
    group: str | None = None
    counts: bool = True

    def __init__(self, space: _Space, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self._space = space
        self._closed = False
        self._held: set[tuple[str, int]] = set()
        self._ends = dict.fromkeys(topics, 0)

    def next_events(self, timeout: float | None = None) -> list[Message]:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._space.changed:
            while True:
                if self._closed:
                    raise ClosedError("MemorySubscriber")
                found = [m for topic in self.topics for m in self._take(topic)]
                left = None if deadline is None else deadline - time.monotonic()
                if found or (left is not None and left <= 0):
                    return found
                self._space.changed.wait(left)

    def _take(self, name: str) -> list[Message]:
        topic = self._space.topic(name)
        found: list[Message] = []
        while topic.waiting and len(found) < _AT_ONCE:
            number, data, attempt = topic.waiting.popleft()
            topic.taken[number] = data, attempt
            self._held.add((name, number))
            found.append(Message(name, data, (name, number), attempt))
        if found or len(topic.ends) == self._ends[name]:
            return found
        # Not before others are done: what they leave behind is for who is still here.
        if all((name, number) in self._held for number in topic.taken):
            found = [Message(name, data) for data in topic.ends[self._ends[name] :]]
            self._ends[name] = len(topic.ends)
        return found

    def acknowledge(self, tokens: Sequence[tuple[str, int]]) -> None:
        with self._space.changed:
            for token in tokens:
                if token in self._held:
                    self._held.discard(token)
                    name, number = token
                    topic = self._space.topic(name)
                    if taken := topic.taken.pop(number, None):
                        topic.bytes -= len(taken[0])
            self._space.changed.notify_all()

    def release(self, tokens: Sequence[tuple[str, int]]) -> None:
        with self._space.changed:
            for token in sorted(tokens, reverse=True):
                if token in self._held:
                    self._held.discard(token)
                    name, number = token
                    topic = self._space.topic(name)
                    if taken := topic.taken.pop(number, None):
                        topic.waiting.appendleft((number, taken[0], taken[1] + 1))
            self._space.changed.notify_all()

    def pass_on(self, topic: str) -> None: ...

    def close(self) -> None:
        self.release(list(self._held))
        with self._space.changed:
            self._closed = True
            self._space.changed.notify_all()
