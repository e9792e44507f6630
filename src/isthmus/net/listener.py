"""Listening: sockets, who connects to them, and what serves each connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING

from isthmus.errors import AddressError, BrokenError, ClosedError, IsthmusError
from isthmus.forking import renew_after_fork
from isthmus.net.address import Address
from isthmus.net.binding import Path, bound
from isthmus.net.limits import Limits
from isthmus.net.opening import offered, open_over, tune
from isthmus.net.tls import TLS
from isthmus.spec import require

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from typing import Self

    from isthmus.net.connection import Connection
    from isthmus.net.tls import Secured
    from isthmus.wire.handshake import Offer

__all__ = ["Listener", "listen"]

log = logging.getLogger("isthmus.net")

ACCEPTED = 64
"""Connections taken in one turn of the event loop."""

MAX_OPENING = 256
"""Connections within their handshakes; of more, the oldest is let go, so that the slow keep nobody out."""

PAUSE = 0.2
"""Seconds without accepting, once the process has no descriptors left."""


async def listen(
    address: str | Address,
    handshake: Offer | None = None,
    *,
    serve: Callable[[Connection], Awaitable[object]],
    tls: TLS | None = None,
    limits: Limits | None = None,
    mode: int = 0o600,
) -> Listener:
    """Listen at an address; each connection, its handshake done, is served by a task of its own.

    Args:
        address: port 0 for any free one (`Listener.address` tells which).
        handshake: what this side says of itself, and its token.
        serve: is called with each connection, which is closed when it returns; what it raises is logged.
        tls: certificate and key, for ``tls`` and ``wss``.
        limits: bounds in bytes and seconds, of each connection.
        mode: permissions of a unix socket. What a dead process left at its path is replaced.

    Raises:
        AddressError: this is no address, or not one that can be listened at; says why and what to do.
        SpecError: there is no certificate, or no such file.
        MissingExtraError: the address needs a package that is not installed.
    """
    where = Address.parse(address)
    if where.websocket:
        require("websockets", extra="websocket", what=f"{where.scheme}:// addresses")
    secured = (tls or TLS()).secured(client=False) if where.secure else None
    if tls is not None and not where.secure:
        raise AddressError(
            str(where), "TLS is for tls:// and wss:// addresses; use one, or leave it out"
        )
    held = None
    if where.scheme == "unix":
        held = Path(where)
        sockets = [held.bind(mode)]
    else:
        where, sockets = await bound(where)
    limits = limits or Limits()
    return Listener(where, sockets, offered(handshake, limits), serve, limits, secured, held)


class Listener:
    """Somebody listening; made by `listen`. Closing it closes its connections too.

    Attributes:
        address: where, with the port that it has.
        connections: those that are open.
    """

    def __init__(
        self,
        where: Address,
        sockets: list[socket.socket],
        offer: Offer,
        serve: Callable[[Connection], Awaitable[object]],
        limits: Limits,
        secured: Secured | None,
        held: Path | None,
    ) -> None:
        self._where = where
        self.address = str(where)
        self.connections: set[Connection] = set()
        self._sockets = sockets
        self._offer = offer
        self._serve = serve
        self._limits = limits
        self._secured = secured
        self._held = held
        self._loop = asyncio.get_running_loop()
        self._opening: dict[asyncio.Task[None], None] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None
        self._inherited = False
        renew_after_fork(self)
        self._accepting(True)

    def _accepting(self, on: bool) -> None:
        for sock in self._sockets:
            if on:
                self._loop.add_reader(sock.fileno(), self._accept, sock)
            else:
                self._loop.remove_reader(sock.fileno())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTED):
            try:
                sock, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("%s: cannot accept, %s; trying again", self.address, error.strerror)
                self._accepting(False)
                self._paused = self._loop.call_later(PAUSE, self._accepting, True)
                return
            sock.setblocking(False)
            while len(self._opening) >= MAX_OPENING:
                oldest = next(iter(self._opening))
                del self._opening[oldest]
                oldest.cancel()
            task = self._loop.create_task(self._welcome(sock))
            self._opening[task] = None
            self._serving.add(task)
            task.add_done_callback(self._done)
            # Not within the task, which may be cancelled before it has begun.
            task.add_done_callback(partial(_let_go, sock))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)
        self._serving.discard(task)

    async def _welcome(self, sock: socket.socket) -> None:
        name = self.address
        try:
            tune(sock)
            name = f"a client at {_peer_name(sock) or self.address}"
            async with asyncio.timeout(self._limits.open_seconds):
                connection = await open_over(
                    sock,
                    self._where,
                    self._offer,
                    self._limits,
                    client=False,
                    secured=self._secured,
                    name=name,
                )
        except TimeoutError:
            log.warning("%s: no handshake within %g s", name, self._limits.open_seconds)
        except (IsthmusError, OSError) as error:
            log.warning("%s was not let in: %s", name, error)
        else:
            task = asyncio.current_task()
            assert task is not None
            self._opening.pop(task, None)
            await self._served(connection)

    async def _served(self, connection: Connection) -> None:
        self.connections.add(connection)
        try:
            await self._serve(connection)
        except (ClosedError, BrokenError) as error:
            log.info("%s", error)
        except Exception:
            log.exception("%s: serving it failed", connection)
            connection.abort()
        finally:
            self.connections.discard(connection)
            await connection.aclose()

    async def aclose(self) -> None:
        """Stop listening, close the connections, and wait for what serves them.

        What has not returned ``limits.close_seconds`` after its connection was closed is cancelled.
        """
        if self._inherited:
            return
        if self._closing is not None:
            await asyncio.wait([self._closing])
            return
        self._closing = self._loop.create_future()
        try:
            self._stop_listening()
            for task in list(self._opening):
                task.cancel()
            await asyncio.gather(*(c.aclose() for c in list(self.connections)))
            if self._serving:
                await asyncio.wait(self._serving, timeout=self._limits.close_seconds)
        finally:
            for task in self._serving:
                task.cancel()
            if self._serving:
                await asyncio.gather(*self._serving, return_exceptions=True)
            self._closing.set_result(None)

    def _stop_listening(self) -> None:
        if self._paused is not None:
            self._paused.cancel()
        self._accepting(False)
        for sock in self._sockets:
            sock.close()
        if self._held is not None:
            self._held.give_up()

    def _forked(self) -> None:
        self._inherited = True
        for sock in self._sockets:
            sock.close()
        if self._held is not None:
            self._held.forked()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<listener at {self.address}, {len(self.connections)} connections>"


def _let_go(sock: socket.socket, _: asyncio.Task[None]) -> None:
    sock.close()


def _peer_name(sock: socket.socket) -> str:
    with contextlib.suppress(OSError):
        name = sock.getpeername()
        if isinstance(name, tuple):
            return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return ""
