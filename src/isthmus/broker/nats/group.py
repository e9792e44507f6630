"""A group of consumers as one durable consumer of JetStream's, which keeps the deadlines itself."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from isthmus.broker.handle import check_read
from isthmus.broker.nats.cursor import SLICE, position_of
from isthmus.broker.nats.link import PAUSE, RefusedError
from isthmus.broker.protocol import Delivery, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.broker.nats.broker import NatsLog

__all__ = ["NatsGroup"]

_NO_STREAM, _NO_CONSUMER = 10059, 10014
_REMEMBERED = 1 << 16  # deliveries


class NatsGroup:
    """A group by its name, within its log."""

    def __init__(self, log: NatsLog, name: str) -> None:
        self.name = name
        self.consumer = name.replace(".", "=")
        self.info = f"CONSUMER.INFO.{log.stream}.{self.consumer}"
        self._log = log
        self._what = f"group {name!r} of log {log.name!r}"
        # Where each delivery is acknowledged: by position, the newest last.
        self._subjects: dict[int, str] = {}

    async def read(
        self, consumer: str, *, limit: int = 64, timeout: float | None = 0
    ) -> list[Delivery]:
        check_read(limit, consumer)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = SLICE if deadline is None else min(SLICE, deadline - time.monotonic())
            try:
                messages = await self._log.broker.steadily(
                    lambda link, left=left: link.pull(  # type: ignore[misc]
                        self._log.stream, self.consumer, limit, self._look, expires=max(0.0, left)
                    )
                )
            except RefusedError as error:
                await self._look()  # raises, if it is gone
                if error.args[0] == 503:
                    self._log.broker.refused(error, self._what)
                await asyncio.sleep(PAUSE)  # as many wait as the server lets, say
                continue
            if messages:
                return [self._delivered(m) for m in messages]
            if deadline is not None and time.monotonic() >= deadline:
                await self._look()
                return []

    def _delivered(self, message: Any) -> Delivery:
        position = position_of(message)
        self._subjects.pop(position, None)
        self._subjects[position] = message.reply
        if len(self._subjects) > _REMEMBERED:
            del self._subjects[next(iter(self._subjects))]
        return Delivery(position, message.data, int(message.metadata.num_delivered))

    async def acknowledge(self, positions: Sequence[int]) -> None:
        await self._each(positions, b"+ACK", 0)
        for position in positions:
            self._subjects.pop(position, None)

    async def extend(self, positions: Sequence[int]) -> None:
        await self._each(positions, b"+WPI", 0)

    async def release(self, positions: Sequence[int]) -> None:
        delivered = 0
        if any(p not in self._subjects for p in positions):
            # What another handle took: the server wants a number that it has given out.
            delivered = (await self._look())["delivered"]["consumer_seq"]
        await self._each(positions, b"-NAK", delivered)

    async def _each(self, positions: Sequence[int], what: bytes, delivered: int) -> None:
        if not positions:
            await self._look()
        start = f"$JS.ACK.{self._log.stream}.{self.consumer}.1"
        try:
            # An answer to each: without one, an acknowledgement could be lost with the connection.
            await self._log.broker.steadily(
                lambda link: asyncio.gather(
                    *(
                        link.ask(self._subjects.get(p) or f"{start}.{p}.{delivered}.0.0", what)
                        for p in positions
                    )
                )
            )
        except RefusedError:
            await self._look()
            raise

    async def _look(self) -> dict[str, Any]:
        try:
            return await self._log.broker.call(self.info)
        except RefusedError as error:
            self._log.broker.refused(error, self._what)
            raise

    async def forget(self, positions: Sequence[int]) -> None:
        """Be done with those of these records that were delivered: they are deleted."""
        info = await self._look()
        if info["num_ack_pending"]:
            last = info["delivered"]["stream_seq"]
            await self._each([p for p in positions if p <= last], b"+ACK", 0)

    async def pending(self) -> int:
        count: int = (await self._look())["num_ack_pending"]
        return count

    async def progress(self) -> Progress:
        info = await self._look()
        delivered = info["delivered"]["stream_seq"]
        outstanding = info["num_ack_pending"]
        return Progress(info["ack_floor"]["stream_seq"] if outstanding else delivered, delivered)

    async def delete(self) -> None:
        await self._log.call(
            f"CONSUMER.DELETE.{self._log.stream}.{self.consumer}", known=(_NO_CONSUMER, _NO_STREAM)
        )
