"""A non-blocking socket as a connection needs it: receive into given memory, send several pieces.

Not asyncio's transports: those join what is sent, and copy what does not fit into the socket at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isthmus.wire.frames import Buffer

__all__ = ["Link", "SocketLink", "TLSLink", "ready"]

MAX_PIECES = 64
"""Of one system call; Linux takes 1024, and more do not help."""

_RECORD = 1 << 14

TLS_BYTES = 1 << 18
"""Encrypted at a time, so that no single send keeps the event loop for long."""


class Link(Protocol):
    """Bytes both ways over one socket; who would have to wait gets a ``BlockingIOError``."""

    sock: socket.socket

    def receive_into(self, buffer: memoryview) -> int:
        """Receive at most so many bytes as there is room for; 0 at the end."""

    def send(self, pieces: Sequence[Buffer]) -> int:
        """Send a beginning of the pieces; return how many bytes that was."""

    def waits_for_room(self) -> bool:
        """Whether bytes that `send` took are still here: it is to be called again, with [] at the least."""

    def pending(self) -> bool:
        """Whether more can be received that the socket's readiness does not tell of."""

    def finish(self) -> None:
        """Tell the other side that no more comes."""

    def close(self) -> None:
        """Close the socket."""


class SocketLink:
    """A link over a TCP or unix socket as it is."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.receive_into: Callable[[memoryview], int] = sock.recv_into
        self._sendmsg = sock.sendmsg

    def send(self, pieces: Sequence[Buffer]) -> int:
        """Send a beginning of the pieces, in one system call."""
        return self._sendmsg(pieces[:MAX_PIECES]) if pieces else 0

    def waits_for_room(self) -> bool:
        """Never: the socket has what it took."""
        return False

    def pending(self) -> bool:
        """Never: the socket's readiness tells all."""
        return False

    def finish(self) -> None:
        """Shut down our direction."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


class TLSLink(SocketLink):
    """A link over TLS: OpenSSL reads and writes the socket itself, past any buffers of ours."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        super().__init__(sock)
        self._tls = sock
        self.receive_into = self._receive_into

    def _receive_into(self, buffer: memoryview) -> int:
        # One record, 16 KiB, a call; gather what there is.
        filled, size = 0, len(buffer)
        recv = self._tls.recv_into
        try:
            while filled < size:
                n = recv(buffer[filled:])
                filled += n
                if n < _RECORD:  # the end, or the last one for now: to ask again costs an exception
                    return filled
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not filled:
                raise BlockingIOError from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return filled
        return filled

    def send(self, pieces: Sequence[Buffer]) -> int:
        """Encrypt and send a beginning of the first piece."""
        # What OpenSSL refused has to be offered again, and it may be longer then. It is: pieces are only
        # ever added behind.
        if not pieces:
            return 0
        first = pieces[0]
        try:
            return self._tls.send(memoryview(first)[:TLS_BYTES])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None

    def pending(self) -> bool:
        """Whether decrypted bytes are here."""
        return self._tls.pending() > 0


async def ready(sock: socket.socket, *, write: bool = False) -> None:
    """Wait until a socket can be read, or written; for the time before a connection has it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    add, remove = (
        (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    )
    fd = sock.fileno()

    def is_ready() -> None:
        if not future.done():
            future.set_result(None)

    add(fd, is_ready)
    try:
        await future
    finally:
        remove(fd)
