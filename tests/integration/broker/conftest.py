"""What tests of all backends do: append while a server is killed, and count what is there afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from isthmus.broker import Log
from isthmus.errors import BrokenError

SENDERS = 4


async def everything(log: Log) -> list[bytes]:
    found: list[bytes] = []
    after = 0
    while records := await log.read(after):
        found += [r.data for r in records]
        after = records[-1].position
    return found


class Traffic:
    """Senders that append numbered records, and note which calls returned and which raised."""

    def __init__(self, log: Log, items: int) -> None:
        self._log = log
        self._items = items
        self._going = True
        self.returned: list[bytes] = []
        self.raised: list[bytes] = []

    async def send(self, sender: int) -> None:
        call = 0
        while self._going:
            call += 1
            data = [f"{sender} {call} {item}".encode() for item in range(self._items)]
            try:
                await self._log.append(data)
            except BrokenError:
                self.raised += data
                await asyncio.sleep(0.01)
            else:
                self.returned += data

    async def through(self, restarts: int, restart: Callable[[], Any]) -> None:
        """Keep sending while the server is killed and started again, several times."""
        tasks = [asyncio.ensure_future(self.send(n)) for n in range(SENDERS)]
        try:
            for _ in range(restarts):
                before = len(self.returned)
                async with asyncio.timeout(30):
                    while len(self.returned) < before + 100:
                        await asyncio.sleep(0.005)
                await asyncio.to_thread(restart)
        finally:
            self._going = False
            await asyncio.gather(*tasks)

    async def check(self, found: list[bytes], *, whole: bool) -> None:
        """Check that what returned is there once, and nothing else but what raised."""
        assert len(set(found)) == len(found), "a record is there twice"
        assert set(self.returned) <= set(found), "an acknowledged record is missing"
        assert set(found) <= set(self.returned) | set(self.raised)
        rows = [tuple(map(int, data.split())) for data in found]
        for sender in range(SENDERS):
            own = [row for row in rows if row[0] == sender]
            assert own == sorted(own), "a sender's records are out of order"
        if whole:
            for n in range(0, len(rows), self._items):
                assert len({row[:2] for row in rows[n : n + self._items]}) == 1
