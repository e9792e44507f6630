"""One connection to one server, used by one thread at a time: requests out, replies in, in order."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec

from isthmus.connectors.zmq.access import zmq
from isthmus.connectors.zmq.messages import Hello, Reply, Request, Welcome, read_reply, write
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from isthmus.connectors.zmq.credentials import Curve

__all__ = ["Frames", "Link", "Received"]

Frames: TypeAlias = "Sequence[bytes | memoryview]"

_SEND_AHEAD = 8  # messages that ZeroMQ holds for a server that does not read, by reference
_COPIED_BYTES = 1 << 18  # what is smaller is copied sooner than a thread is told that it was sent
_HEARTBEAT_SECONDS = 10.0


class Received(NamedTuple):
    """A reply with its frames."""

    reply: Reply
    frames: Sequence[Any]
    """ZeroMQ's; ``.buffer`` is a view that keeps the memory alive."""


class GoneError(BrokenError):
    """The server ended the connection, or its end did."""


class Link:
    """A connection; it is made once and never again, so that it cannot come to lead to another server.

    Args:
        context: ZeroMQ's.
        endpoint: where the server listens.
        curve: keys, for a server of another node.
        where: what errors call it.
        timeout: seconds that it may keep silent.
        linger: seconds that this client wants the server to outlive its last user.

    Raises:
        BrokenError: it does not answer, or refuses the key.
    """

    def __init__(
        self,
        context: Any,
        endpoint: str,
        curve: Curve | None,
        where: str,
        timeout: float,
        linger: float,
    ) -> None:
        module = self._zmq = zmq()
        self._where = where
        self._timeout = timeout
        self._socket = context.socket(module.DEALER)
        self._socket.linger = 0
        self._socket.sndhwm = _SEND_AHEAD
        self._socket.copy_threshold = _COPIED_BYTES
        self._socket.reconnect_ivl = -1
        if curve is not None:
            self._socket.curve_serverkey = curve.server_public
            self._socket.curve_publickey = curve.client_public
            self._socket.curve_secretkey = curve.client_secret
            self._socket.ipv6 = "[" in endpoint
            beat = min(_HEARTBEAT_SECONDS, timeout / 3)
            self._socket.heartbeat_ivl = max(1, int(beat * 1e3))
            self._socket.heartbeat_timeout = max(1, int(timeout * 1e3))
        # Says when the server is gone: at once, where a dead process's kernel still speaks for it.
        self._monitor = self._socket.get_monitor_socket(
            module.EVENT_DISCONNECTED
            | module.EVENT_CLOSED
            | module.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | module.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | module.EVENT_HANDSHAKE_FAILED_AUTH
        )
        self._poller = module.Poller()
        self._poller.register(self._monitor, module.POLLIN)
        self._poller.register(self._socket, module.POLLIN)
        self._owed = 0  # replies to come
        self._greeted = curve is None
        try:
            self._socket.connect(endpoint)
            reply = self.ask(Hello(linger)).reply
        except BaseException:
            self.close()
            raise
        self._greeted = True
        self.fresh = True  # lent for the first time
        assert isinstance(reply, Welcome)
        self.identity = reply.identity

    def ask(self, request: Request, frames: Frames = ()) -> Received:
        """Return the reply to one request."""
        return next(self.run([(request, frames)], window=1))

    def run(
        self, requests: Iterable[tuple[Request, Frames]], window: int, patience: float = 0.0
    ) -> Iterator[Received]:
        """Yield the replies to several requests, in order.

        Args:
            requests: each with its frames, which are sent where they lie: they must not change before
                the reply has come.
            window: requests sent ahead of replies.
            patience: seconds that the server may take besides the time for an answer.

        Raises:
            BrokenError: the server is gone, or silent. The link is then of no more use.
        """
        todo = iter(requests)
        ahead = 0
        more = True
        while more or ahead:
            while more and ahead < window:
                following = next(todo, None)
                if following is None:
                    more = False
                    break
                self.send(*following)
                ahead += 1
                self._owed += 1
            if ahead:
                received = self._receive(patience)
                ahead -= 1
                self._owed -= 1
                yield received

    def send(self, request: Request, frames: Frames = ()) -> None:
        """Send a request, or part of one that has no reply."""
        parts = [write(request), *frames]
        try:
            self._socket.send_multipart(parts, self._zmq.NOBLOCK, copy=False)
        except self._zmq.Again:
            self._await(self._zmq.POLLOUT, self._timeout)
            self._socket.send_multipart(parts, self._zmq.NOBLOCK, copy=False)

    def usable(self) -> bool:
        """Return whether the server was there just now, and owes us nothing."""
        return not self._owed and not self._poller.poll(0)

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(self._zmq.ZMQError):
            self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)

    def _receive(self, patience: float) -> Received:
        try:
            header, *frames = self._socket.recv_multipart(self._zmq.NOBLOCK, copy=False)
        except self._zmq.Again:
            self._await(self._zmq.POLLIN, self._timeout + patience)
            header, *frames = self._socket.recv_multipart(self._zmq.NOBLOCK, copy=False)
        try:
            return Received(read_reply(header.buffer), frames)
        except msgspec.DecodeError:
            raise BrokenError(self._where, "it speaks another protocol") from None

    def _await(self, event: int, seconds: float) -> None:
        """Wait until the socket can be read from, or written to."""
        deadline = time.monotonic() + seconds
        self._poller.modify(self._socket, event)
        try:
            while True:
                left = deadline - time.monotonic()
                ready = dict(self._poller.poll(max(0, int(left * 1e3) + 1)))
                if self._socket in ready:
                    return
                if self._monitor in ready:
                    raise GoneError(self._where, self._what_happened())
                if left <= 0:
                    raise BrokenError(
                        self._where,
                        f"no answer in {seconds:g} s; see whether its process, or the network, is "
                        "stopped, or raise timeout",
                    )
        finally:
            self._poller.modify(self._socket, self._zmq.POLLIN)

    def _what_happened(self) -> str:
        if self._greeted:
            return "it is gone, and the objects that it had with it"
        return (
            "it did not let us in: it has another secret key, or it left just now; see that key= "
            "leads to the same secret on both nodes"
        )
