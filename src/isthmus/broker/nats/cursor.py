"""Reading a stream from a position: by a consumer of the server's, kept where the next read goes on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from isthmus.broker.nats.link import LostError, RefusedError
from isthmus.broker.protocol import Record

if TYPE_CHECKING:
    from isthmus.broker.nats.broker import NatsLog
    from isthmus.broker.nats.link import Link

__all__ = ["SLICE", "Cursors", "position_of"]

SLICE = 5.0
"""Seconds that one pull waits: a server that vanished without a word is noticed after so many."""

_KEPT = 4  # idle ones: readers of one handle, each at its own place
_IDLE = 60 * 10**9  # ns after which the server deletes one that nobody uses


def position_of(message: Any) -> int:
    """Return where a message lies in its stream."""
    return int(message.metadata.sequence.stream)


class _Cursor:
    """A consumer that has delivered what comes before `after`, and perhaps one more, which is kept."""

    def __init__(self, link: Link, consumer: str, after: int) -> None:
        self.link = link
        self.consumer = consumer
        self.after = after
        self.kept: list[Record] = []


class Cursors:
    """The cursors of one handle of a log. Who uses one has taken it out."""

    def __init__(self, log: NatsLog) -> None:
        self._log = log
        self._idle: list[_Cursor] = []

    async def read(self, after: int, limit: int, max_bytes: int) -> list[Record]:
        """Return records beyond a position."""
        cursor = await self._take(after)
        found = cursor.kept[:limit]
        cursor.kept = []
        size = sum(len(r.data) for r in found)
        try:
            if len(found) < limit and (size < max_bytes or not found):
                found += await self._some(cursor, limit - len(found), max_bytes - size, not found)
        except (RefusedError, LostError):
            return found or await self._anew(after, limit, max_bytes)
        self._give_back(cursor, found[-1].position if found else after)
        return found

    async def _anew(self, after: int, limit: int, max_bytes: int) -> list[Record]:
        # The server deleted an idle consumer, or the log: the caller looks which.
        cursor = await self._make(after)
        try:
            found = await self._some(cursor, limit, max_bytes, True)
        except RefusedError as error:
            self._log.broker.refused(error, f"log {self._log.name!r}")
            return []
        self._give_back(cursor, found[-1].position if found else after)
        return found

    async def _some(
        self, cursor: _Cursor, limit: int, max_bytes: int, even_large: bool
    ) -> list[Record]:
        try:
            return await self._pull(cursor, limit, 0, max_bytes)
        except RefusedError as error:
            if "MaxBytes" not in error.args[1]:
                raise
        return await self._pull(cursor, 1, 0, 0) if even_large else []

    async def wait(self, after: int, timeout: float | None) -> bool:
        """Wait for a record beyond a position; it is kept for the read that follows."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
            if left <= 0:
                return False
            cursor = await self._take(after)
            try:
                # A server takes no shorter wait for one: it answers at once.
                cursor.kept = cursor.kept or await self._pull(cursor, 1, max(left, 0.001), 0)
            except RefusedError:
                await self._log.stat()  # raises, if it is the log that is gone
                continue
            except asyncio.CancelledError:
                # What it may have been sent by now is lost. Left to itself it would stay for a minute, and
                # who waits for several logs at once cancels often.
                await cursor.link.tell(
                    f"$JS.API.CONSUMER.DELETE.{self._log.stream}.{cursor.consumer}"
                )
                raise
            found = bool(cursor.kept)
            self._give_back(cursor, after)
            if found:
                return True

    def forget(self) -> None:
        """Drop what is kept: records may be gone."""
        self._idle.clear()

    async def _take(self, after: int) -> _Cursor:
        link = await self._log.broker.link()
        for n, cursor in enumerate(self._idle):
            if cursor.after == after and cursor.link is link:
                return self._idle.pop(n)
        return await self._make(after)

    async def _make(self, after: int) -> _Cursor:
        link = await self._log.broker.link()
        answer = await self._log.call(
            f"CONSUMER.CREATE.{self._log.stream}",
            {
                "stream_name": self._log.stream,
                "config": {
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": max(1, after + 1),
                    "ack_policy": "none",
                    "replay_policy": "instant",
                    "mem_storage": True,
                    "num_replicas": 1,
                    "inactive_threshold": _IDLE,
                },
            },
        )
        return _Cursor(link, answer["name"], after)

    def _give_back(self, cursor: _Cursor, after: int) -> None:
        cursor.after = after
        self._idle.append(cursor)
        del self._idle[:-_KEPT]  # the server deletes the consumer when it was idle

    async def _pull(
        self, cursor: _Cursor, batch: int, expires: float, max_bytes: int
    ) -> list[Record]:
        messages = await cursor.link.pull(
            self._log.stream,
            cursor.consumer,
            batch,
            lambda: self._look(cursor),
            expires=expires,
            max_bytes=max_bytes,
        )
        return [Record(position_of(m), m.data) for m in messages]

    async def _look(self, cursor: _Cursor) -> None:
        await self._log.stat()
        await cursor.link.call(f"CONSUMER.INFO.{self._log.stream}.{cursor.consumer}")
