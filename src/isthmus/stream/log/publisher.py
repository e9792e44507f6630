"""Appends messages to logs: what threads send while one append is under way makes the next."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import TYPE_CHECKING

from isthmus.errors import ClosedError, FullError
from isthmus.net.bridge import bridge
from isthmus.stream.channel import check_topic
from isthmus.stream.log.patience import steadily

if TYPE_CHECKING:
    from isthmus.broker import Broker, Group, Log
    from isthmus.stream.log.channel import LogChannelSpec

__all__ = ["LogPublisher"]

_WINDOW = 4 << 20  # bytes that may be on their way
_AT_ONCE = 256  # messages in one append
_AT_ONCE_BYTES = 512 << 10  # of them together
_FIRST, _LONGEST = 0.001, 0.05  # seconds between looks at a full log


class LogPublisher:
    """Sends in the background, in order; `flush` returns when the broker has everything.

    After an error nothing more is sent: what was on its way may be in the log or not.
    """

    def __init__(self, broker: Broker, spec: LogChannelSpec, ends: str) -> None:
        self._broker = broker
        self._spec = spec
        self._ends = ends
        self._logs: dict[str, tuple[Log, list[Group]]] = {}
        self._changed = threading.Condition()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._bytes = 0
        self._pumping = False
        self._failure: Exception | None = None
        self._closed = False

    def send(self, topic: str, message: bytes) -> None:
        check_topic(topic)
        with self._changed:
            while self._bytes > _WINDOW and self._failure is None and not self._closed:
                self._changed.wait()
            self._check()
            self._waiting.append((topic, message))
            self._bytes += len(message)
            if not self._pumping:
                self._pumping = True
                bridge.start(self._pump())

    def flush(self) -> None:
        with self._changed:
            while (self._waiting or self._pumping) and self._failure is None:
                self._changed.wait()
            self._check()

    def end(self, topic: str, message: bytes) -> None:
        check_topic(topic)
        self.flush()
        bridge.run(self._end(topic, message))

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            try:
                if self._failure is None:
                    self.flush()
            finally:
                self._closed = True
                self._changed.notify_all()
                while self._pumping:
                    self._changed.wait()
                bridge.run(self._broker.aclose())

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("LogPublisher")
        if self._failure is not None:
            raise self._failure

    async def _pump(self) -> None:
        """Append what waits, until nothing does."""
        while True:
            with self._changed:
                if not self._waiting or self._failure is not None:
                    self._pumping = False
                    self._changed.notify_all()
                    return
                topic, items = self._together()
            try:
                await self._append(topic, items)
            except BaseException as error:
                with self._changed:
                    known = isinstance(error, Exception)
                    self._failure = error if known else ClosedError("the bridge")  # type: ignore[assignment]
                    self._pumping = False
                    self._changed.notify_all()
                if not known:
                    raise
                return
            with self._changed:
                self._bytes -= sum(map(len, items))
                self._changed.notify_all()

    def _together(self) -> tuple[str, list[bytes]]:
        """Return the next messages of one topic that go in one append."""
        topic, first = self._waiting.popleft()
        items, size = [first], len(first)
        while self._waiting and len(items) < _AT_ONCE:
            other, message = self._waiting[0]
            size += len(message)
            if other != topic or size > _AT_ONCE_BYTES:
                break
            items.append(message)
            self._waiting.popleft()
        return topic, items

    async def _append(self, topic: str, items: list[bytes]) -> None:
        async def append() -> None:
            log, _ = await self._opened(topic)
            await log.append(items)

        pause = _FIRST
        while True:
            try:
                await steadily(append, self._spec.patience)
                return
            except FullError:
                if self._spec.max_records is None and self._spec.max_bytes is None:
                    raise
                if len(items) > 1:  # one by one, as they fit
                    for item in items:
                        await self._append(topic, [item])
                    return
            if not await self._trim(topic):
                log, _ = await self._opened(topic)
                if not (await log.stat()).records:
                    await log.append(items)  # into an empty log: what raises now will always raise
                    return
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST)

    async def _trim(self, topic: str) -> bool:
        """Forget what all groups are done with; whether there was anything."""

        async def trim() -> bool:
            log, groups = await self._opened(topic)
            floor = min([(await group.progress()).done for group in groups])
            return floor > 0 and await log.trim(floor) > 0

        return await steadily(trim, self._spec.patience)

    async def _opened(self, topic: str) -> tuple[Log, list[Group]]:
        found = self._logs.get(topic)
        if found is None:
            spec = self._spec
            log = await self._broker.open(
                topic, max_records=spec.max_records, max_bytes=spec.max_bytes
            )
            groups = [await log.group(name, ack_wait=spec.ack_wait) for name in spec.groups]
            found = self._logs[topic] = log, groups
        return found

    async def _end(self, topic: str, message: bytes) -> None:
        async def append() -> None:
            await self._opened(topic)
            ends = await self._broker.open(topic + self._ends)
            await ends.append([message])

        await steadily(append, self._spec.patience)
