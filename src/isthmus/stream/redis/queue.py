"""Queues on a Redis server: each message goes to one subscriber, and is gone when it was taken."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from isthmus.access.redis import RedisAddress
from isthmus.errors import ClosedError, SpecError
from isthmus.stream.channel import ChannelHandle, check_topic
from isthmus.stream.protocol import Message
from isthmus.stream.redis.client import Client

__all__ = ["RedisQueueChannel", "RedisQueueSpec"]

_SLICE = 0.5  # seconds that a blocked connection is not seen to be closed
_END = b""  # what stands in a queue for "look who has ended"; no message is empty

# queue, limit, message -> length, or 0 if it is full
_PUSH = """
if redis.call('LLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
return redis.call('RPUSH', KEYS[1], ARGV[2])
"""


class RedisQueueSpec(RedisAddress):
    """Where a `RedisQueueChannel` keeps its queues."""

    prefix: str = "isthmus-streams"
    max_messages: int | None = None
    """That wait in one topic; who sends more waits."""
    prefetch: int = 64
    """Messages that a subscriber takes at once, and loses if it is killed."""


class RedisQueueChannel(ChannelHandle):
    """Lists on a server, for every host that reaches it.

    A topic that was ended stays so until it is deleted.
    """

    kind = "redis-queue"
    spec_type = RedisQueueSpec
    loses: ClassVar[str] = (
        "producer: nothing that `send` returned for; connection: what the server was just handing to a"
        " consumer, up to `prefetch` messages; consumer: what it had taken and not used, up to `prefetch`"
        " messages and the one at hand; server: what its persistence does not keep"
    )

    def __init__(
        self,
        hostname: str = "localhost",
        port: int = 6379,
        db: int = 0,
        prefix: str = "isthmus-streams",
        *,
        max_messages: int | None = None,
        prefetch: int = 64,
        **address: Any,
    ) -> None:
        spec = RedisQueueSpec.from_config(
            {
                "hostname": hostname,
                "port": port,
                "db": db,
                "prefix": prefix,
                "max_messages": max_messages,
                "prefetch": prefetch,
                **address,
            }
        )
        if prefetch < 1 or (max_messages is not None and max_messages < 1):
            raise SpecError("RedisQueueChannel", "prefetch and max_messages must be at least 1")
        super().__init__(spec)
        self._queue = spec

    def publisher(self) -> RedisQueuePublisher:
        """Return what sends."""
        return RedisQueuePublisher(self._queue)

    def _subscriber(
        self, topics: tuple[str, ...], group: str | None, start: int
    ) -> RedisQueueSubscriber:
        return RedisQueueSubscriber(self._queue, topics)

    def _delete(self, topics: tuple[str, ...]) -> None:
        client = Client(self._queue, type(self).__name__)
        try:
            with client.told():
                for topic in topics:
                    client.redis.delete(*_keys(self._queue, topic))
        finally:
            client.close()


def _keys(spec: RedisQueueSpec, topic: str) -> tuple[str, str]:
    """Return the names of a topic's queue and of the table of those who ended it: on one node."""
    check_topic(topic)
    return f"{spec.prefix}:{{{topic}}}:queue", f"{spec.prefix}:{{{topic}}}:ends"


class RedisQueuePublisher:
    """Appends messages to lists; they are there when `send` returns."""

    def __init__(self, spec: RedisQueueSpec) -> None:
        self._client = Client(spec, type(self).__name__)
        self._spec = spec
        self._limit = spec.max_messages
        self._push = self._client.redis.register_script(_PUSH)
        self._closed = threading.Event()

    def send(self, topic: str, message: bytes) -> None:
        queue, _ = _keys(self._spec, topic)
        pause = 0.001
        while True:
            if self._closed.is_set():
                raise ClosedError("RedisQueuePublisher")
            with self._client.told(len(message)):
                if self._limit is None:
                    self._client.redis.execute_command("RPUSH", queue, message)
                    return
                if self._push([queue], [self._limit, message]):
                    return
            self._closed.wait(pause)
            pause = min(2 * pause, 0.02)

    def flush(self) -> None: ...

    def end(self, topic: str, message: bytes) -> None:
        queue, ends = _keys(self._spec, topic)
        with self._client.told():
            both = self._client.redis.pipeline(transaction=True)
            both.rpush(ends, message).rpush(queue, _END).execute()

    def close(self) -> None:
        self._closed.set()
        self._client.close()


class RedisQueueSubscriber:
    """Pops messages from lists."""

    complete: bool = False
    group: str | None = None

    def __init__(self, spec: RedisQueueSpec, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self._client = Client(spec, type(self).__name__)
        self._prefetch = spec.prefetch
        self._of = {_keys(spec, topic)[0].encode(): topic for topic in topics}
        self._spec = spec
        self._closed = threading.Event()
        self._receiving = threading.Lock()

    def next_events(self, timeout: float | None = None) -> list[Message]:
        with self._receiving:
            return self._next_events(timeout)

    def _next_events(self, timeout: float | None) -> list[Message]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed.is_set():
            left = None if deadline is None else deadline - time.monotonic()
            wait = _SLICE if left is None else min(left, _SLICE)
            found = self._client.steadily(lambda wait=wait: self._pop(wait), self._closed)  # type: ignore[misc]
            if found or (left is not None and left <= 0):
                return found
        raise ClosedError("RedisQueueSubscriber")

    def _pop(self, wait: float) -> list[Message]:
        """Return what is there, or the first to come."""
        ask = self._client.redis.execute_command
        for queue, topic in self._of.items():
            if popped := ask("LPOP", queue, self._prefetch):
                return self._messages(topic, popped)
        if wait <= 0:
            return []
        first = ask("BLPOP", *self._of, max(0.001, wait))
        return self._messages(self._of[first[0]], [first[1]]) if first else []

    def _messages(self, topic: str, popped: list[bytes]) -> list[Message]:
        found = [Message(topic, data) for data in popped if data != _END]
        if _END in popped:
            ends = self._client.redis.lrange(_keys(self._spec, topic)[1], 0, -1)
            found += [Message(topic, data) for data in ends]
        return found

    def pass_on(self, topic: str) -> None:
        if not self._closed.is_set():
            with self._client.told():
                self._client.redis.rpush(_keys(self._spec, topic)[0], _END)

    def close(self) -> None:
        self._closed.set()
        with self._receiving:  # who waits there looks soon
            self._client.close()
