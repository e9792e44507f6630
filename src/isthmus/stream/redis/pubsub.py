"""Redis publish/subscribe: every subscriber that is connected gets every message, once, at best."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from isthmus.access.redis import RedisAddress
from isthmus.errors import BrokenError, ClosedError
from isthmus.stream.channel import ChannelHandle, check_topic
from isthmus.stream.protocol import Message
from isthmus.stream.redis.client import Client

__all__ = ["RedisPubSubChannel", "RedisPubSubSpec"]

_SLICE = 0.5  # seconds that a blocked connection is not seen to be closed
_AT_ONCE = 256  # messages handed over together


class RedisPubSubSpec(RedisAddress):
    """Where a `RedisPubSubChannel` sends to."""

    prefix: str = "isthmus-streams"


class RedisPubSubChannel(ChannelHandle):
    """Every subscriber gets what is sent while it is connected; the server keeps nothing.

    A subscriber is connected when it has been made. One that is slower than the server's
    ``client-output-buffer-limit`` (32 MB as installed) is disconnected by it.
    """

    kind = "redis-pubsub"
    spec_type = RedisPubSubSpec
    loses: ClassVar[str] = (
        "producer: nothing that `send` returned for; connection, consumer, server: all that is sent until"
        " the subscriber is connected again, and what was on its way; `StreamConsumer.missed` counts it"
    )

    def __init__(
        self,
        hostname: str = "localhost",
        port: int = 6379,
        db: int = 0,
        prefix: str = "isthmus-streams",
        **address: Any,
    ) -> None:
        spec = RedisPubSubSpec.from_config(
            {"hostname": hostname, "port": port, "db": db, "prefix": prefix, **address}
        )
        super().__init__(spec)
        self._address = spec

    def publisher(self) -> RedisPublisher:
        """Return what sends."""
        return RedisPublisher(self._address)

    def _subscriber(
        self, topics: tuple[str, ...], group: str | None, start: int
    ) -> RedisSubscriber:
        return RedisSubscriber(self._address, topics)


class RedisPublisher:
    """Publishes; whoever is subscribed has the message on its way when `send` returns."""

    def __init__(self, spec: RedisPubSubSpec) -> None:
        self._client = Client(spec, type(self).__name__)
        self._prefix = spec.prefix
        self._closed = False

    def send(self, topic: str, message: bytes) -> None:
        if self._closed:
            raise ClosedError("RedisPublisher")
        name = f"{self._prefix}:{check_topic(topic)}"
        with self._client.told(len(message)):
            self._client.redis.execute_command("PUBLISH", name, message)

    def flush(self) -> None: ...

    def end(self, topic: str, message: bytes) -> None:
        self.send(topic, message)

    def close(self) -> None:
        self._closed = True
        self._client.close()


class RedisSubscriber:
    """Listens to topics, and connects anew when its connection breaks."""

    complete: bool = True
    group: str | None = None

    def __init__(self, spec: RedisPubSubSpec, topics: tuple[str, ...]) -> None:
        self.topics = topics
        self._of = {f"{spec.prefix}:{topic}".encode(): topic for topic in topics}
        self._client = Client(spec, type(self).__name__)
        self._closed = threading.Event()
        self._receiving = threading.Lock()
        self._connection: Any = None
        with self._client.told():
            self._connect()

    def _connect(self) -> None:
        """Connect and subscribe; all is heard from here on."""
        connection = self._client.redis.connection_pool.get_connection()
        try:
            connection.send_command("SUBSCRIBE", *self._of, check_health=False)
            for _ in self._of:
                connection.read_response()
        except BaseException:
            self._drop(connection)
            raise
        self._connection = connection

    def _drop(self, connection: Any) -> None:
        connection.disconnect()
        self._client.redis.connection_pool.release(connection)

    def next_events(self, timeout: float | None = None) -> list[Message]:
        with self._receiving:
            return self._next_events(timeout)

    def _next_events(self, timeout: float | None) -> list[Message]:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._closed.is_set():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                with self._client.told():
                    found = self._hear(_SLICE if left is None else min(left, _SLICE))
            except BrokenError:
                self._again()
                continue
            if found or left == 0:
                return found
        raise ClosedError("RedisSubscriber")

    def _hear(self, wait: float) -> list[Message]:
        found: list[Message] = []
        connection = self._connection
        while len(found) < _AT_ONCE and connection.can_read(0 if found else wait):
            reply = connection.read_response()
            if reply[0] == b"message":
                found.append(Message(self._of[reply[1]], reply[2]))
        return found

    def _again(self) -> None:
        self._drop(self._connection)
        self._connection = None
        self._client.steadily(self._connect, self._closed)

    def pass_on(self, topic: str) -> None: ...

    def close(self) -> None:
        if not self._closed.is_set():
            self._closed.set()
            with self._receiving:  # who waits there looks soon
                if self._connection is not None:
                    self._drop(self._connection)
                self._client.close()
