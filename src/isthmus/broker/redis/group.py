"""A group of consumers as the stream's own, with deadlines."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from isthmus.broker.handle import check_read
from isthmus.broker.protocol import Delivery, Progress
from isthmus.broker.redis import scripts
from isthmus.errors import MissingLogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.broker.redis.broker import RedisLog
    from isthmus.broker.redis.scripts import Script

__all__ = ["LOOK_AGAIN", "RedisGroup"]

LOOK_AGAIN = 1.0
"""Seconds after which who waits looks without a ring: messages get lost where a server fails over."""

_PER_SCRIPT = 1000  # positions: while a script runs, the server serves nobody else


class RedisGroup:
    """A group by its name, within its log."""

    def __init__(self, log: RedisLog, name: str) -> None:
        self.name = name
        self._log = log

    async def _run(self, script: Script, *arguments: bytes | int) -> Any:
        what = f"group {self.name!r} of "
        return await self._log.run(script, self.name.encode(), *arguments, what=what)

    async def read(
        self, consumer: str, *, limit: int = 64, timeout: float | None = 0
    ) -> list[Delivery]:
        check_read(limit, consumer)

        async def look() -> tuple[list[Delivery], float]:
            if timeout != 0:
                self._log.bell()
            again, *flat = await self._run(scripts.TAKE, consumer.encode(), limit)
            rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
            found = [Delivery(int(p), data, n) for p, data, n in rows]
            return found, LOOK_AGAIN if again < 0 else min(LOOK_AGAIN, again / 1000)

        if timeout == 0:
            return (await look())[0]
        return await self._log.bell().until(look, timeout)

    async def acknowledge(self, positions: Sequence[int]) -> None:
        await self._each(scripts.ACK, positions)

    async def extend(self, positions: Sequence[int]) -> None:
        await self._each(scripts.EXTEND, positions)

    async def release(self, positions: Sequence[int]) -> None:
        await self._each(scripts.RELEASE, positions)

    async def _each(self, script: Script, positions: Sequence[int]) -> None:
        for start in range(0, len(positions) or 1, _PER_SCRIPT):
            await self._run(script, *positions[start : start + _PER_SCRIPT])

    async def pending(self) -> int:
        count: int = await self._run(scripts.PENDING)
        return count

    async def progress(self) -> Progress:
        oldest, last = (int(id.partition(b"-")[2]) for id in await self._run(scripts.PROGRESS))
        return Progress(oldest - 1 if oldest else last, last)

    async def delete(self) -> None:
        with contextlib.suppress(MissingLogError):
            await self._run(scripts.UNGROUP)
