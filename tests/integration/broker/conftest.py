"""What tests of all backends do: append while a server is killed, cut wires, count what is there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any, Self

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


class Relay:
    """What lies between a client and a server, and fails: it resets connections, or keeps silent.

    A context manager; ``port`` leads to the server's.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._open: list[asyncio.StreamWriter] = []
        self._deaf: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._listening.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.close()
        for writer in self._open:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._open += [writer, to_server]
        for source, target in ((reader, to_server), (theirs, writer)):
            task = asyncio.create_task(self._pump(source, target))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if target not in self._deaf:
                    target.write(data)
        target.close()

    def reset(self) -> None:
        """End all connections as a machine does that has forgotten them: without a goodbye."""
        for writer in self._open:
            linger = struct.pack("ii", 1, 0)
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, linger
                )
            writer.transport.abort()
        self._open.clear()

    def swallow(self) -> None:
        """Let nothing through any more on the connections there are; nobody is told."""
        self._deaf.update(self._open)
