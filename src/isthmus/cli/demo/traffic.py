"""Bytes that an engine really moved: a pool's pipes, and the TCP connections of a Dask scheduler."""

from __future__ import annotations

import os
import socket
import struct
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["PipeTraffic", "connection_bytes"]


class PipeTraffic:
    """Counts what this process writes to and reads from the pipes of `multiprocessing`.

    Those are what a process pool's client and workers talk over. The class of the pipes is wrapped while
    this is entered, before the pool is made, since a pool's threads hold on to bound methods.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._original: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name in ("_send_bytes", "_recv_bytes"):
            self._original[name] = getattr(Connection, name)
        send, receive = self._original.values()

        def counted_send(connection: Connection, data: Any) -> Any:
            self.bytes += len(data)
            return send(connection, data)

        def counted_receive(connection: Connection, *size: Any) -> Any:
            buffer = receive(connection, *size)
            self.bytes += buffer.getbuffer().nbytes
            return buffer

        Connection._send_bytes = counted_send  # type: ignore[attr-defined]
        Connection._recv_bytes = counted_receive  # type: ignore[attr-defined]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name, function in self._original.items():
            setattr(Connection, name, function)


def connection_bytes(ports: set[int], peers: set[int]) -> int | None:
    """Return the bytes that this process's TCP connections sent and received, by the kernel's count.

    Args:
        ports: local ports whose connections count: those that a server accepted.
        peers: remote ports whose connections count: those that the server opened.

    Returns:
        The sum over connections that are open now; None where the kernel does not say.
    """
    total = 0
    for sock in _sockets():
        with sock:
            try:
                local, remote = sock.getsockname()[1], sock.getpeername()[1]
            except OSError:  # listening
                continue
            if local in ports or remote in peers:
                counted = _counted(sock)
                if counted is None:
                    return None
                total += counted
    return total


def _sockets() -> Iterator[socket.socket]:
    """Yield a duplicate of every TCP socket of this process, to be closed by the caller."""
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
                continue
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:  # closed meanwhile
            continue
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
            yield sock
        else:
            sock.close()


_ACKNOWLEDGED_AND_RECEIVED = struct.Struct("=120xQQ")
"""The two byte counters of Linux's ``struct tcp_info`` (since 4.1) and what stands before them."""


def _counted(sock: socket.socket) -> int | None:
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED_AND_RECEIVED.size)
        sent, received = _ACKNOWLEDGED_AND_RECEIVED.unpack(info)
    except (OSError, AttributeError, struct.error):
        return None
    return int(sent) + int(received)
