"""RESP2 over a connection of redis-py's, without its copies.

The client library opens, authenticates and pools connections. What goes over one is written and read
here: its own parser gathers a large reply in pieces of 64 kB and joins them, although a reply tells its
size before its first byte.
"""

from __future__ import annotations

import os
import socket
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Command", "Link", "RefusedError", "command", "raise_first"]

T = TypeVar("T")

Command: TypeAlias = "list[bytes | memoryview]"
"""A request as it goes over the wire, in pieces."""

_BUFFER = 1 << 14
_PIECES_PER_CALL = min(os.sysconf("SC_IOV_MAX"), 1024)
_JOINED = 1 << 16  # what is smaller is copied together: a system call costs more


class RefusedError(Exception):
    """An error reply. ``args``: its text."""


def command(*arguments: bytes | int | list[bytes | memoryview]) -> Command:
    """Return a request; an argument in pieces is not joined."""
    out: Command = []
    head = b"*%d\r\n" % len(arguments)
    for argument in arguments:
        if isinstance(argument, list):
            out += [head + b"$%d\r\n" % sum(map(len, argument)), *argument]
            head = b"\r\n"
        else:
            data = argument if isinstance(argument, bytes) else b"%d" % argument
            head += b"$%d\r\n%b\r\n" % (len(data), data)
    return [*out, head]


class Link:
    """A borrowed connection: requests out, replies in, in the same order.

    Args:
        connection: redis-py's, connected and with no reply outstanding.
    """

    def __init__(self, connection: Any) -> None:
        self._socket = connection._sock
        self._buffer = memoryview(bytearray(_BUFFER))
        self._start = self._end = 0

    def send(self, commands: Iterable[Command]) -> None:
        """Send requests: small pieces joined, all in as few system calls as it takes."""
        ready: list[bytes | memoryview] = []
        small: list[bytes | memoryview] = []
        for piece in chain.from_iterable(commands):
            if len(piece) < _JOINED:
                small.append(piece)
            else:
                ready += (b"".join(small), piece)
                small = []
        ready.append(b"".join(small))
        if type(self._socket) is not socket.socket:  # TLS cannot gather
            for piece in ready:
                self._socket.sendall(piece)
            return
        while ready:
            sent = self._socket.sendmsg(ready[:_PIECES_PER_CALL])
            while ready and sent >= len(ready[0]):
                sent -= len(ready.pop(0))
            if sent:
                ready[0] = memoryview(ready[0])[sent:]

    def run(
        self, commands: Iterable[Command], *, window: int, read: Callable[[], T] | None = None
    ) -> Iterator[T | Any]:
        """Send requests, at most `window` ahead of the replies, and yield what `read` makes of each reply.

        An error reply is yielded, as a `RefusedError`, not raised: the others' replies still come. Whoever
        stops in between has to give up the connection.
        """
        read = self.reply if read is None else read
        source = iter(commands)
        outstanding = 0
        while True:
            ahead = list(islice(source, window - outstanding))
            self.send(ahead)
            outstanding += len(ahead)
            if not outstanding:
                return
            # Refilled when half of the window is free, so that small requests share system calls.
            for _ in range(outstanding - window // 2 if outstanding == window else outstanding):
                yield read()
                outstanding -= 1

    def reply(self) -> Any:
        """Return the next reply: bytes, int, list, None, or `RefusedError`."""
        line = self._line()
        sort, rest = line[:1], line[1:]
        if sort == b"$":
            size = int(rest)
            if size < 0:
                return None
            data = bytearray(size)
            self.body(memoryview(data))
            return bytes(data)
        if sort == b":":
            return int(rest)
        if sort == b"*":
            return None if int(rest) < 0 else [self.reply() for _ in range(int(rest))]
        if sort == b"+":
            return bytes(rest)
        if sort == b"-":
            return RefusedError(rest.decode("utf-8", "replace"))
        raise ConnectionError(f"its answer is no RESP2: {line[:40]!r}")

    def size(self) -> int | RefusedError | None:
        """Return how many bytes the next reply, a bulk string, has; `body` must follow."""
        line = self._line()
        if line[:1] == b"$":
            size = int(line[1:])
            return None if size < 0 else size
        if line[:1] == b"-":
            return RefusedError(line[1:].decode("utf-8", "replace"))
        raise ConnectionError(f"its answer is no bulk string: {line[:40]!r}")

    def body(self, target: memoryview) -> None:
        """Fill `target` with what is left of a bulk string, and read its end."""
        self.fill(target)
        while self._end - self._start < 2:
            self._more()
        mark = bytes(self._buffer[self._start : self._start + 2])
        self._start += 2
        if mark != b"\r\n":
            raise ConnectionError(f"its answer is no RESP2: {mark!r} ends a string")

    def fill(self, target: memoryview) -> None:
        """Read exactly as many bytes as `target` has, straight into it."""
        done = min(len(target), self._end - self._start)
        target[:done] = self._buffer[self._start : self._start + done]
        self._start += done
        while done < len(target):
            got = self._socket.recv_into(target[done:])
            if not got:
                raise ConnectionError("it closed the connection")
            done += got

    def _line(self) -> bytes:
        searched = 0
        while True:
            held = bytes(self._buffer[self._start : min(self._end, self._start + 4096)])
            at = held.find(b"\r\n", max(0, searched - 1))
            if at >= 0:
                self._start += at + 2
                return held[:at]
            if len(held) == 4096:
                raise ConnectionError(f"its answer is no RESP2: {held[:40]!r}")
            searched = len(held)
            self._more()

    def _more(self) -> None:
        left = self._end - self._start
        if self._end == _BUFFER or not left:
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        got = self._socket.recv_into(self._buffer[self._end :])
        if not got:
            raise ConnectionError("it closed the connection")
        self._end += got


def raise_first(replies: Iterable[T]) -> list[T]:
    """Return all replies or, when all were read, raise the first refusal among them."""
    got = list(replies)
    for reply in got:
        if isinstance(reply, RefusedError):
            raise reply
    return got
