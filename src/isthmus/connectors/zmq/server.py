"""The server of a node: a process of its own that keeps bytes in memory and hands them out again.

It reads headers and nothing else, keeps the frames of objects as ZeroMQ received them, and sends those
very frames to whoever asks, without a copy. One thread does all of that; what moves the bytes is
ZeroMQ's own thread. A second thread waits for the lock that is free when the last user is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import math
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from isthmus.connectors.unfinished import remove, try_lock
from isthmus.connectors.zmq.access import MOST_CHUNK_BYTES, tcp
from isthmus.connectors.zmq.messages import (
    Answer,
    Begin,
    Clear,
    Entries,
    EntryInfo,
    Evict,
    Exists,
    Finish,
    Found,
    Full,
    Get,
    Hello,
    Lease,
    ListEntries,
    Missing,
    Part,
    Put,
    Range,
    Refused,
    Renew,
    Renewed,
    Reply,
    Request,
    Stat,
    Sweep,
    Wait,
    Welcome,
    read_request,
    write,
)
from isthmus.connectors.zmq.vault import Draft, Entry, FullVaultError, Vault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Order", "Server", "main"]

_COPIED_BYTES = 1 << 16
"""A smaller frame may lie in a buffer of ZeroMQ's with others, and would keep all of it."""
_TURN = 64  # messages from one socket before the others have theirs
_PAGE = 500
_LONGEST_WAIT = 60.0


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


class _Waiter(NamedTuple):
    route: bytes
    socket: Any
    until: float


class Server:
    """Answers requests until its last user is gone.

    Args:
        order: what it was told.
        serving: descriptor of the file that it has locked.

    Raises:
        zmq.ZMQError: it cannot listen there.
    """

    def __init__(self, order: Order, serving: int) -> None:
        import zmq
        from zmq.utils import z85

        self._zmq = zmq
        self._folder = order.folder
        self._serving = serving
        self._client = z85.decode(order.client_public)
        self._vault: Vault[Any] = Vault(
            _half_of_memory() if order.max_bytes is None else order.max_bytes
        )
        self._identity = f"{order.node}-{order.key_id}-{os.urandom(4).hex()}"
        self._waiters: dict[str, list[_Waiter]] = {}
        self._patience = math.inf  # when the first of them is to be told that nothing came
        self._context = zmq.Context()
        self._doorman = self._context.socket(zmq.REP)
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

        self._card = (self._identity, order.address, port, path)
        self._presence = _Presence(os.path.join(order.folder, "users"))

    def _router(self) -> Any:
        socket = self._context.socket(self._zmq.ROUTER)
        socket.linger = 0
        socket.maxmsgsize = MOST_CHUNK_BYTES + 4096
        socket.rcvhwm = 64  # of one client, unread: chunks, each as large as that
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
        zmq = self._zmq
        self._presence.start()
        poller = zmq.Poller()
        for socket in (self._doorman, self._local, self._remote, self._presence.fd):
            poller.register(socket, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(self._pause()))
            if self._presence.fd in ready:
                return
            if self._doorman in ready:
                self._admit()
            for socket in (self._local, self._remote):
                if socket in ready:
                    self._serve(socket)
            self._tidy()

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
            answer = self._answer(request, frames[1:], route.bytes, socket)
            if answer is not None:
                self._send(socket, route.bytes, *answer)

    def _send(self, socket: Any, route: bytes, reply: Reply, frames: Sequence[Any] = ()) -> None:
        with contextlib.suppress(self._zmq.Again):
            # A frame of ZeroMQ's is sent by reference, whoever else is reading it.
            parts = [route, write(reply), *frames]
            socket.send_multipart(parts, self._zmq.NOBLOCK, copy=False)

    def _answer(
        self, request: Request, frames: Sequence[Any], route: bytes, socket: Any
    ) -> tuple[Reply] | tuple[Reply, Sequence[Any]] | None:
        """Return the reply and its frames; None where there is none, or not yet."""
        vault, now = self._vault, _now()
        match request:
            case Get():
                return self._get(request)
            case Put():
                if sum(map(len, frames)) != request.size:
                    return (Refused("not as many bytes as were announced"),)
                return (self._put(request, frames, now),)
            case Part():
                vault.add(request.draft, [_kept(f) for f in frames], now)
                return None
            case Begin():
                return (self._begin(request, now),)
            case Finish():
                return (self._finish(request, now),)
            case Range():
                return self._range(request)
            case Exists():
                return (Answer(int(vault.find(request.name) is not None)),)
            case Evict():
                return (Answer(int(vault.evict(request.name))),)
            case Stat():
                entry = vault.find(request.name)
                found = [] if entry is None else [_info(request.name, entry, now)]
                return (Entries(found),)
            case Wait():
                return self._wait(request, route, socket, now)
            case ListEntries():
                page = vault.entries(request.after, _PAGE)
                infos = [_info(name, entry, now) for name, entry in page]
                return (Entries(infos, len(page) == _PAGE),)
            case Clear():
                return (Answer(vault.clear()),)
            case Sweep():
                return (Answer(vault.expire(now) + vault.sweep(self._alive, now)),)
            case Lease():
                return (Answer(int(vault.lease(request.name, request.seconds, now))),)
            case Renew():
                return (Renewed([vault.renew(name, now) for name in request.names]),)
            case Hello():
                if socket is self._local:
                    self._presence.linger = max(self._presence.linger, request.linger)
                return (Welcome(self._identity),)

    def _put(self, request: Put, frames: Sequence[Any], now: float) -> Reply:
        def store() -> bool:
            return self._vault.put(
                request.name,
                [_kept(f) for f in frames],
                absent=request.absent,
                lease=request.lease,
                created=time.time(),
                now=now,
            )

        return self._with_room(store, request.name, now)

    def _begin(self, request: Begin, now: float) -> Reply:
        draft: Draft[Any] = Draft(
            request.name, request.size, request.writer, request.absent, request.lease
        )
        return self._with_room(lambda: self._vault.begin(draft, now), None, now)

    def _finish(self, request: Finish, now: float) -> Reply:
        name = self._vault.name_of(request.draft)
        stored = self._vault.finish(request.draft, created=time.time(), now=now)
        if stored is None:
            return Refused("it was given up: chunks are missing, or nothing came of it for too long")
        if stored and name is not None:
            self._wake(name)
        return Answer(int(stored))

    def _with_room(self, store: Any, name: str | None, now: float) -> Reply:
        """Store, after making room if there is none."""
        for last in (False, True):
            try:
                stored = store()
            except FullVaultError:
                if last or not self._vault.expire(now) + self._vault.sweep(self._alive, now):
                    return Full(self._vault.used, self._vault.limit)
                continue
            if stored and name is not None:
                self._wake(name)
            return Answer(int(stored))
        raise AssertionError("unreachable")

    def _get(self, request: Get) -> tuple[Reply] | tuple[Reply, Sequence[Any]]:
        entry = self._vault.find(request.name)
        if entry is None or request.serial not in (0, entry.serial):
            return (Missing(),)
        if not 0 <= request.number < max(1, len(entry.chunks)):
            return (Refused(f"an object of {len(entry.chunks)} chunks has no {request.number}"),)
        found = Found(entry.size, len(entry.chunks), entry.serial)
        return found, entry.chunks[request.number] if entry.chunks else ()

    def _range(self, request: Range) -> tuple[Reply] | tuple[Reply, Sequence[Any]]:
        entry = self._vault.find(request.name)
        if entry is None or request.serial not in (0, entry.serial):
            return (Missing(),)
        if request.offset < 0 or not 0 <= request.size <= MOST_CHUNK_BYTES:
            return (Refused("a range is at most one chunk"),)
        data = b"".join(_cut(entry, request.offset, request.size))
        return Found(entry.size, len(entry.chunks), entry.serial), [data]

    def _wait(self, request: Wait, route: bytes, socket: Any, now: float) -> tuple[Reply] | None:
        if self._vault.find(request.name) is not None:
            return (Answer(1),)
        if not 0 < request.seconds < _LONGEST_WAIT:
            return (Answer(0),)
        waiter = _Waiter(route, socket, now + request.seconds)
        self._waiters.setdefault(request.name, []).append(waiter)
        self._patience = min(self._patience, waiter.until)
        return None

    def _wake(self, name: str) -> None:
        for waiter in self._waiters.pop(name, ()):
            self._send(waiter.socket, waiter.route, Answer(1))

    def _pause(self) -> float | None:
        """Return milliseconds until there is something to do without being asked."""
        due = min(self._patience, self._vault.next_due())
        return None if due == math.inf else max(0.0, due - _now()) * 1e3 + 1

    def _tidy(self) -> None:
        """Tell those who waited long enough; delete what is overdue."""
        now = _now()
        self._vault.expire(now)
        if now < self._patience:
            return
        waiting, self._waiters, self._patience = self._waiters, {}, math.inf
        for name, waiters in waiting.items():
            for waiter in waiters:
                if waiter.until <= now:
                    self._send(waiter.socket, waiter.route, Answer(0))
                else:
                    self._waiters.setdefault(name, []).append(waiter)
                    self._patience = min(self._patience, waiter.until)

    def _alive(self, writer: str) -> bool:
        """Return whether the process that has a file of the folder locked still runs."""
        path = os.path.join(self._folder, os.path.basename(writer))
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if try_lock(fd):
                remove(path)
                return False
            return True
        finally:
            os.close(fd)


class _Presence(threading.Thread):
    """Waits until no user is left, and stays alone until the process ends.

    Attributes:
        fd: readable when the server has to leave.
        linger: seconds to stay after the last user, or after the last request of one.
    """

    def __init__(self, path: str) -> None:
        super().__init__(name="isthmus zmq presence", daemon=True)
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.fd, self._bell = os.pipe()
        self.linger = 0.0
        self._used = _now()

    def used(self) -> None:
        """Note that a user asked for something."""
        self._used = _now()

    def leave(self) -> None:
        """Have the server leave, users or not."""
        os.write(self._bell, b"x")

    def run(self) -> None:
        """Wait."""
        alone = _now()
        while True:
            if not try_lock(self._lock):
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                alone = _now()
            left = max(alone, self._used) + self.linger - _now()
            if left <= 0:
                return self.leave()
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            time.sleep(left)


def _now() -> float:
    # Counts while the machine sleeps, and nobody can set it.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _kept(frame: Any) -> Any:
    return frame if len(frame) >= _COPIED_BYTES else frame.bytes


def _info(name: str, entry: Entry[Any], now: float) -> EntryInfo:
    left = None if entry.lease is None else entry.until - now
    return EntryInfo(name, entry.size, entry.created, entry.serial, left)


def _cut(entry: Entry[Any], offset: int, size: int) -> Iterator[memoryview]:
    stop, start = offset + size, 0
    for frame in entry.frames():
        end = start + len(frame)
        if start >= stop:
            return
        if end > offset:
            view = frame if isinstance(frame, bytes) else frame.buffer
            yield memoryview(view)[max(0, offset - start) : stop - start]
        start = end


def _half_of_memory() -> int:
    """Return half of what this node, or this job's control group, has left."""
    with open("/proc/meminfo") as file:
        facts = dict(line.split(":", 1) for line in file)
    free = int(facts["MemAvailable"].split()[0]) << 10
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError), open(limit) as most, open(used) as now:
            free = min(free, max(0, int(most.read()) - int(now.read())))
    return free // 2


def main() -> NoReturn:
    """Run a server as the order on standard input says; print ``ready`` when clients can come."""
    order = Order(**json.loads(sys.stdin.buffer.read()))
    # Nobody's child: whoever started it neither waits for it nor takes it along.
    if os.fork():
        os._exit(0)
    serving = os.open(
        os.path.join(order.folder, "serving"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    code = 1
    server = None
    try:
        if not try_lock(serving):
            raise RuntimeError("there is a server already")
        server = Server(order, serving)
        signal.signal(signal.SIGTERM, lambda *_: server._presence.leave())
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
