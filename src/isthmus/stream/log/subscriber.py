"""Reads logs ahead of the thread that uses them: alone from a position, or as one of a group."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import threading
from typing import TYPE_CHECKING, TypeVar

from isthmus.errors import BrokenError, IsthmusError
from isthmus.net.bridge import bridge
from isthmus.stream.log.inbox import Inbox
from isthmus.stream.log.patience import steadily
from isthmus.stream.protocol import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from isthmus.broker import Broker, Group, Log
    from isthmus.stream.log.channel import LogChannelSpec

__all__ = ["GroupSubscriber", "LogSubscriber"]

T = TypeVar("T")
Token = tuple[str, int]

_FIRST, _LONGEST = 0.005, 0.2  # seconds between looks at what others of a group have not finished
_GOODBYE = 2.0  # seconds that giving messages back may take


class LogSubscriber:
    """Reads each topic's log by itself, from a position on."""

    complete: bool = True
    group: str | None = None

    def __init__(
        self, broker: Broker, spec: LogChannelSpec, ends: str, topics: tuple[str, ...], start: int
    ) -> None:
        self.topics = topics
        self._broker = broker
        self._spec = spec
        self._ends = ends
        self._start = start
        self._inbox = Inbox(self._emptied)
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._room = asyncio.Event()
        self._stop = asyncio.Event()
        bridge.run(self._open())
        self._serving = bridge.start(self._serve(), daemon=True)

    def next_events(self, timeout: float | None = None) -> list[Message]:
        return self._inbox.take(timeout)

    def pass_on(self, topic: str) -> None: ...

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._inbox.close()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._serving.result()

    def _emptied(self) -> None:
        if self._loop is not None and not self._closed:
            self._loop.call_soon_threadsafe(self._room.set)

    # On the bridge

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._logs: dict[str, tuple[Log, Log]] = {}
        try:
            for topic in self.topics:
                await self._steadily(lambda topic=topic: self._open_topic(topic))  # type: ignore[misc]
        except BaseException:
            await self._broker.aclose()
            raise

    async def _open_topic(self, topic: str) -> None:
        main = await self._broker.open(topic)
        self._logs[topic] = main, await self._broker.open(topic + self._ends)
        await self._begin(topic, main)

    async def _begin(self, topic: str, main: Log) -> None:
        after = (await main.stat()).last if self._start < 0 else self._start
        self._after = {**getattr(self, "_after", {}), topic: after}

    async def _serve(self) -> None:
        work = [asyncio.create_task(self._fail(chore)) for chore in self._chores()]
        try:
            await self._stop.wait()
        finally:
            for task in work:
                task.cancel()
            await asyncio.wait(work)
            with contextlib.suppress(IsthmusError, TimeoutError):
                async with asyncio.timeout(_GOODBYE):
                    await self._goodbye()
            await self._broker.aclose()

    def _chores(self) -> list[Callable[[], Awaitable[None]]]:
        return [functools.partial(self._follow, topic) for topic in self.topics]

    async def _goodbye(self) -> None: ...

    async def _fail(self, chore: Callable[[], Awaitable[None]]) -> None:
        try:
            await chore()
        except Exception as error:
            self._inbox.fail(error)

    async def _steadily(self, call: Callable[[], Awaitable[T]]) -> T:
        return await steadily(call, self._spec.patience)

    async def _has_room(self) -> None:
        while len(self._inbox) >= self._spec.prefetch:
            self._room.clear()
            if len(self._inbox) >= self._spec.prefetch:
                await self._room.wait()

    async def _follow(self, topic: str) -> None:
        main, ends = self._logs[topic]
        after, ended = self._after[topic], 0
        while True:
            await self._has_room()
            # Asked first: what is appended before an end is then there to be read.
            fresh = await self._steadily(lambda ended=ended: ends.read(ended))  # type: ignore[misc]
            records = await self._steadily(
                lambda after=after: main.read(after, limit=self._spec.prefetch)  # type: ignore[misc]
            )
            if records:
                self._inbox.put([Message(topic, r.data, None, 1, r.position) for r in records])
                after = records[-1].position
            elif fresh:
                self._inbox.put([Message(topic, r.data) for r in fresh])
                ended = fresh[-1].position
            else:
                await self._steadily(
                    lambda after=after, ended=ended: _either(main.wait(after), ends.wait(ended))  # type: ignore[misc]
                )


async def _either(*waits: Awaitable[bool]) -> None:
    """Wait for one of several; raises what it raises."""
    tasks = [asyncio.ensure_future(one) for one in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


class GroupSubscriber(LogSubscriber):
    """Shares each topic with the others of its group; what it does not acknowledge goes to them."""

    complete = False

    def __init__(
        self,
        broker: Broker,
        spec: LogChannelSpec,
        ends: str,
        topics: tuple[str, ...],
        group: str,
        start: int,
    ) -> None:
        self.group = group
        # JetStream takes a delivery back that nobody was there to hear, and with it the ones before.
        self.counts = spec.broker != "nats"
        self._name = f"{socket.gethostname()[:32]}-{os.getpid()}-{os.urandom(3).hex()}"
        self._name = "".join(c if c.isalnum() else "-" for c in self._name)
        self._groups: dict[str, Group] = {}
        self._held: dict[str, set[int]] = {topic: set() for topic in topics}
        self._changed = threading.Condition()
        self._acking: list[Token] = []
        self._pumping = False
        self._ack_failure: Exception | None = None
        super().__init__(broker, spec, ends, topics, start)

    # Acknowledging

    def acknowledge(self, tokens: Sequence[Token]) -> None:
        with self._changed:
            if self._ack_failure is not None:
                raise self._ack_failure
            self._acking += tokens
            for topic, position in tokens:
                self._held[topic].discard(position)
            if not self._pumping:
                self._pumping = True
                bridge.start(self._acknowledge())

    def release(self, tokens: Sequence[Token]) -> None:
        with self._changed:
            for topic, position in tokens:
                self._held[topic].discard(position)
        by_topic = _by_topic(tokens)

        async def release() -> None:
            for topic, positions in by_topic.items():
                with contextlib.suppress(BrokenError):  # it comes back by itself, later
                    await self._groups[topic].release(positions)

        bridge.start(release())

    async def _acknowledge(self) -> None:
        while True:
            with self._changed:
                tokens, self._acking = self._acking, []
                if not tokens:
                    self._pumping = False
                    self._changed.notify_all()
                    return
            try:
                for topic, positions in _by_topic(tokens).items():
                    group = self._groups[topic]
                    await self._steadily(lambda g=group, p=positions: g.acknowledge(p))  # type: ignore[misc]
            except Exception as error:
                with self._changed:
                    self._ack_failure = error
                    self._pumping = False
                    self._changed.notify_all()
                return

    def close(self) -> None:
        with self._changed:
            while self._pumping:
                self._changed.wait()
        super().close()

    # On the bridge

    async def _begin(self, topic: str, main: Log) -> None:
        start = (await main.stat()).last if self._start < 0 else self._start
        self._groups[topic] = await main.group(
            self.group or "", start=start, ack_wait=self._spec.ack_wait
        )

    def _chores(self) -> list[Callable[[], Awaitable[None]]]:
        hear = [functools.partial(self._hear_ends, topic) for topic in self.topics]
        return [*super()._chores(), *hear, self._keep]

    async def _follow(self, topic: str) -> None:
        group = self._groups[topic]
        while True:
            await self._has_room()
            await self._steadily(lambda: self._read(topic, group))

    async def _read(self, topic: str, group: Group) -> None:
        found = await group.read(self._name, limit=self._spec.prefetch, timeout=None)
        messages = [
            Message(topic, d.data, (topic, d.position), d.attempt, d.position) for d in found
        ]
        with self._changed:
            self._held[topic].update(m.position for m in messages)
        self._inbox.put(messages)

    async def _hear_ends(self, topic: str) -> None:
        _, ends = self._logs[topic]
        ended = 0
        while True:
            await self._steadily(lambda ended=ended: ends.wait(ended))  # type: ignore[misc]
            fresh = await self._steadily(lambda ended=ended: ends.read(ended))  # type: ignore[misc]
            if fresh:
                await self._steadily(lambda: self._quiet(topic))
                self._inbox.put([Message(topic, r.data) for r in fresh])
                ended = fresh[-1].position

    async def _quiet(self, topic: str) -> None:
        """Wait until no other of the group has anything: what a killed one had is for who is still here."""
        main, group = self._logs[topic][0], self._groups[topic]
        pause = _FIRST
        while True:
            # Others read too; two reads at once by one consumer would mix up the order.
            delivered = (await group.progress()).delivered
            if await main.read(delivered, limit=1):
                pass
            elif await group.pending() <= len(self._held[topic]):
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    async def _keep(self) -> None:
        """Go on having what is being used, however long that takes."""
        while True:
            await asyncio.sleep(self._spec.ack_wait / 3)
            for topic, group in self._groups.items():
                with self._changed:
                    held = sorted(self._held[topic])
                if held:
                    with contextlib.suppress(BrokenError):
                        await group.extend(held)

    async def _goodbye(self) -> None:
        for topic, group in self._groups.items():
            if held := sorted(self._held[topic]):
                await group.release(held)


def _by_topic(tokens: Sequence[Token]) -> dict[str, list[int]]:
    by_topic: dict[str, list[int]] = {}
    for topic, position in tokens:
        by_topic.setdefault(topic, []).append(position)
    return by_topic
