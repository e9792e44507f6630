"""WebSocket, for networks that let nothing else through: our bytes in binary messages, cut anywhere."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from isthmus.errors import RemoteProtocolError
from isthmus.net.link import ready
from isthmus.spec import require

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from isthmus.net.address import Address
    from isthmus.net.link import Link
    from isthmus.wire.frames import Buffer

__all__ = ["WebSocketLink", "upgrade"]

MESSAGE_BYTES = 1 << 20
"""What is sent as one message; it is copied into it (and masked, by a client)."""

MAX_MESSAGE_BYTES = 1 << 24
"""What is taken from others."""

MAX_UNANSWERED = 100
"""Pings of a peer that takes no answers."""

SUBPROTOCOL = "isthmus"


class WebSocketLink:
    """A link in the messages of another: the protocol is the `websockets` library's, the socket is ours."""

    def __init__(self, inner: Link, protocol: Any) -> None:
        self.sock: socket.socket = inner.sock
        self._inner = inner
        self._protocol = protocol
        self._read = memoryview(bytearray(1 << 18))
        self._in: deque[memoryview] = deque()
        self._out = memoryview(b"")
        self._unanswered = 0
        self._ended = False

    def receive_into(self, buffer: memoryview) -> int:
        """Receive what lies in messages; 0 once the other side closed."""
        if not self._in and not self._ended:
            self.take_in(self._inner.receive_into(self._read))
        if not self._in:
            if self._ended:
                return 0
            # A part of a message, or pings, without end perhaps: before more, others get their turn.
            raise BlockingIOError
        first = self._in[0]
        n = min(len(first), len(buffer))
        buffer[:n] = first[:n]
        if n == len(first):
            self._in.popleft()
        else:
            self._in[0] = first[n:]
        return n

    def take_in(self, n: int) -> list[Any]:
        """Hand the first `n` bytes read to the protocol; return what is no data: the opening messages."""
        from websockets.frames import Frame, Opcode

        protocol = self._protocol
        if n:
            protocol.receive_data(bytes(self._read[:n]))
        else:
            protocol.receive_eof()
            self._ended = True
        others = []
        for event in protocol.events_received():
            if not isinstance(event, Frame):
                others.append(event)
            elif event.opcode in (Opcode.BINARY, Opcode.CONT):
                if event.data:
                    self._in.append(memoryview(event.data))
            elif event.opcode is Opcode.CLOSE:
                self._ended = True
            elif event.opcode is Opcode.PING:
                self._unanswered += 1
        with contextlib.suppress(OSError):  # a peer that closed need not wait for the answer
            self._push()  # answers to pings, and to a close
        if self._unanswered > MAX_UNANSWERED:
            raise RemoteProtocolError("the peer pings, and takes no answers", "it was let go")
        wrong = protocol.handshake_exc or protocol.parser_exc
        if wrong is not None and not self._ended:
            raise RemoteProtocolError("the peer does not speak WebSocket as it should", str(wrong))
        return others

    def send(self, pieces: Sequence[Buffer]) -> int:
        """Send a beginning of the first piece as one message."""
        self._push()
        if not pieces:
            return 0
        chunk = bytes(memoryview(pieces[0])[:MESSAGE_BYTES])
        self._protocol.send_binary(chunk)
        with contextlib.suppress(BlockingIOError):
            self._push()
        return len(chunk)

    def _push(self) -> None:
        """Send what the protocol wants sent, after what is left of the last time."""
        while True:
            if not self._out:
                self._out = memoryview(b"".join(self._protocol.data_to_send()))
                if not self._out:
                    self._unanswered = 0
                    return
            self._out = self._out[self._inner.send([self._out]) :]

    def waits_for_room(self) -> bool:
        """Whether bytes of messages wait for the socket."""
        return len(self._out) > 0 or self._inner.waits_for_room()

    def pending(self) -> bool:
        """Whether messages are here that were not handed out."""
        return bool(self._in) or self._inner.pending()

    def finish(self) -> None:
        """Close as WebSocket does, then the link beneath."""
        with contextlib.suppress(Exception):  # it is closing anyway
            self._protocol.send_close()
            self._push()
        self._inner.finish()

    def close(self) -> None:
        """Close the socket."""
        self._inner.close()


async def upgrade(link: Link, address: Address, *, client: bool) -> WebSocketLink:
    """Do WebSocket's own opening over a link.

    Raises:
        MissingExtraError: the library is not installed.
        RemoteProtocolError: the other side does not speak WebSocket, or has another path.
    """
    require("websockets", extra="websocket", what=f"{address.scheme}:// addresses")
    if client:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        asking = ClientProtocol(
            parse_uri(str(address)), subprotocols=[SUBPROTOCOL], max_size=MAX_MESSAGE_BYTES
        )
        opened = WebSocketLink(link, asking)
        asking.send_request(asking.connect())
        await _sent(opened)
        await _opening(opened)
        if asking.handshake_exc is not None:
            raise RemoteProtocolError(
                str(address), f"no WebSocket of isthmus there: {asking.handshake_exc}"
            )
        return opened
    from websockets.server import ServerProtocol

    answering = ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=MAX_MESSAGE_BYTES)
    opened = WebSocketLink(link, answering)
    request = await _opening(opened)
    if request.path != address.path:
        response = answering.reject(404, f"nothing at {request.path}\n")
    else:
        response = answering.accept(request)
    answering.send_response(response)
    await _sent(opened)
    if response.status_code != 101:
        raise RemoteProtocolError(str(address), f"a client asked for {request.path}")
    return opened


async def _opening(link: WebSocketLink) -> Any:
    """Return the first message of the other side: its request or its response."""
    while True:
        try:
            n = link._inner.receive_into(link._read)
        except BlockingIOError:
            await ready(link.sock)
            continue
        for message in link.take_in(n):
            return message
        if not n:
            raise RemoteProtocolError("the peer went away", "before WebSocket was opened")


async def _sent(link: WebSocketLink) -> None:
    while True:
        try:
            link.send([])
            return
        except BlockingIOError:
            await ready(link.sock, write=True)
