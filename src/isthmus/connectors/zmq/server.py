"""The server of a node: a process of its own that keeps bytes in memory and hands them out again.

It reads headers and nothing else, keeps the frames of objects as ZeroMQ received them, and sends those
very frames to whoever asks, without a copy. One thread does all of that; what moves the bytes is
ZeroMQ's own. A second thread waits for the lock that is free when the last user is gone.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import resource
import signal
import sys
from typing import Any, NamedTuple, NoReturn

import msgspec

from isthmus.connectors.leases import now
from isthmus.connectors.polling import poll
from isthmus.connectors.unfinished import remove, try_lock
from isthmus.connectors.zmq.access import MOST_CHUNK_BYTES, tcp, zmq
from isthmus.connectors.zmq.messages import Hello, Welcome, read_request, write
from isthmus.connectors.zmq.presence import Presence
from isthmus.connectors.zmq.service import Asker, Response, Service

__all__ = ["Order", "Server", "main"]

_COPIED_BYTES = 1 << 16
"""A smaller frame may lie in a buffer of ZeroMQ's with others, and would keep all of it."""
_LEAVING_SECONDS = 10.0
_TURN = 64  # messages from one socket before the others have theirs


class Order(NamedTuple):
    """What a server is told by the process that starts it."""

    folder: str
    node: str
    address: str
    port: int
    max_bytes: int | None
    key_id: str
    server_secret: str
    client_public: str


class Server:
    """Answers requests until its last user is gone.

    Args:
        order: what it was told.
        serving: descriptor of the file that it has locked.

    Raises:
        zmq.ZMQError: it cannot listen there.
    """

    def __init__(self, order: Order, serving: int) -> None:
        from zmq.utils import z85

        module = self._zmq = zmq()
        self._folder = order.folder
        self._serving = serving
        self._client = z85.decode(order.client_public)
        self._service = Service(order.folder, order.max_bytes, self._send)
        self._identity = f"{order.node}-{order.key_id}-{os.urandom(4).hex()}"
        self._context = module.Context()
        self._doorman = self._context.socket(module.REP)
        self._doorman.bind("inproc://zeromq.zap.01")

        path = os.path.join(order.folder, "socket")
        remove(path)
        self._local = self._router()
        self._local.bind(f"ipc://{path}")

        self._remote = self._router()
        self._remote.curve_server = True
        self._remote.curve_secretkey = order.server_secret.encode()
        self._remote.zap_domain = b"isthmus"
        self._remote.ipv6 = ":" in order.address
        self._remote.heartbeat_ivl = 10_000
        self._remote.heartbeat_timeout = 60_000
        self._remote.bind(tcp(order.address, order.port))
        port = int(self._remote.last_endpoint.rpartition(b":")[2])

        self._card = (self._identity, order.address, port, path, os.getpid())
        self._presence = Presence(os.path.join(order.folder, "users"))

    def _router(self) -> Any:
        socket = self._context.socket(self._zmq.ROUTER)
        socket.linger = 0
        socket.maxmsgsize = MOST_CHUNK_BYTES + 4096
        socket.rcvhwm = 16  # of one client, unread: chunks, each as large as that
        socket.handshake_ivl = 10_000
        return socket

    def publish(self) -> None:
        """Let clients find it."""
        path = os.path.join(self._folder, "card")
        with open(f"{path}.new", "w") as file:
            json.dump(self._card, file)
        os.replace(f"{path}.new", path)

    def run(self) -> None:
        """Serve; returns when the last user is gone, or SIGTERM came."""
        self._presence.start()
        poller = self._zmq.Poller()
        for socket in (self._doorman, self._local, self._remote, self._presence.fd):
            poller.register(socket, self._zmq.POLLIN)
        while True:
            ready = dict(poller.poll(self._service.pause(now())))
            if self._presence.fd in ready:
                return
            if self._doorman in ready:
                self._admit()
            for socket in (self._local, self._remote):
                if socket in ready:
                    self._serve(socket)
            self._service.tidy(now())

    def obey(self, number: signal.Signals) -> None:
        """Have `run` return when this signal comes."""
        # Whichever thread the kernel gives it to, the bell is rung.
        signal.set_wakeup_fd(self._presence.bell)
        signal.signal(number, lambda *_: None)

    def leave(self) -> None:
        """Let nobody find it any more; close everything but the locks, which end with the process."""
        for name in ("card", "socket"):
            remove(os.path.join(self._folder, name))
        self._context.destroy(linger=0)

    def _admit(self) -> None:
        """Let those in who have the client's key (ZAP, RFC 27 of ZeroMQ)."""
        version, request, _, _, _, mechanism, *keys = self._doorman.recv_multipart()
        known = mechanism == b"CURVE" and hmac.compare_digest(b"".join(keys), self._client)
        status = (b"200", b"OK") if known else (b"400", b"unknown key")
        self._doorman.send_multipart([version, request, *status, b"", b""])

    def _serve(self, socket: Any) -> None:
        for _ in range(_TURN):
            try:
                route, *frames = socket.recv_multipart(self._zmq.NOBLOCK, copy=False)
            except self._zmq.Again:
                return
            try:
                request = read_request(frames[0].buffer)
            except (IndexError, msgspec.DecodeError):
                continue  # not ours
            if socket is self._local:
                self._presence.used()
            asker = Asker(socket, route.bytes)
            if isinstance(request, Hello):
                if socket is self._local:
                    self._presence.linger = max(self._presence.linger, request.linger)
                self._send(asker, Response(Welcome(self._identity)))
                continue
            response = self._service.answer(request, [_kept(f) for f in frames[1:]], asker, now())
            if response is not None:
                self._send(asker, response)

    def _send(self, asker: Asker, response: Response) -> None:
        with contextlib.suppress(self._zmq.Again):  # it reads nothing, or is gone
            # A frame of ZeroMQ's is sent by reference, whoever else is reading it.
            parts = [asker.route, write(response.reply), *response.frames]
            asker.socket.send_multipart(parts, self._zmq.NOBLOCK, copy=False)


def _kept(frame: Any) -> Any:
    return frame if len(frame) >= _COPIED_BYTES else frame.bytes


def main() -> NoReturn:
    """Run a server as the order on standard input says; print ``ready`` when clients can come."""
    order = Order(**json.loads(sys.stdin.buffer.read()))
    # Nobody's child: whoever started it neither waits for it nor takes it along.
    if os.fork():
        os._exit(0)
    serving = os.open(
        os.path.join(order.folder, "serving"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one for each connection
    code = 1
    server = None
    try:
        # One that is just leaving has it, or, for a moment, somebody who looks whether there is one.
        if not poll(lambda: bool(try_lock(serving)), _LEAVING_SECONDS):
            raise RuntimeError("there is a server already")
        server = Server(order, serving)
        server.obey(signal.SIGTERM)
        server.publish()
        print("ready", flush=True)
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):
            os.dup2(nothing, fd)
        server.run()
        code = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        if server is not None:
            server.leave()
        os._exit(code)
