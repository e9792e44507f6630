"""Objects over a link: cut into chunks where they lie, and put together where they are wanted."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from isthmus.connectors.payload import total
from isthmus.connectors.room import room
from isthmus.connectors.zmq.messages import (
    Begin,
    Finish,
    Found,
    Full,
    Get,
    Missing,
    Part,
    Put,
    Range,
    Refused,
    Request,
)
from isthmus.errors import BrokenError, FullError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from isthmus.connectors.zmq.link import Frames, Link, Received

__all__ = ["SMALL_AHEAD", "cut", "expect", "fetch", "fetch_all", "fetch_range", "store"]

SMALL_AHEAD = 64
_CHUNKS_AHEAD = 4  # in flight to one reader, in its memory besides the object
_JOINED = 1 << 16  # a frame of its own costs more than copying a smaller piece


def cut(flat: Sequence[bytes | memoryview], chunk: int) -> Iterator[list[bytes | memoryview]]:
    """Yield an object's chunks, each in pieces where they lie; small pieces are copied together."""
    current: list[bytes | memoryview] = []
    small: list[bytes | memoryview] = []
    room = chunk

    def join() -> None:
        if small:
            current.append(small[0] if len(small) == 1 else b"".join(small))
            small.clear()

    for piece in flat:
        view: bytes | memoryview = piece
        while len(view):
            if len(view) <= room:
                part, view = view, b""
            else:
                whole = memoryview(view)
                part, view = whole[:room], whole[room:]
            if len(part) >= _JOINED:
                join()
                current.append(part)
            else:
                small.append(part)
            room -= len(part)
            if not room:
                join()
                yield current
                current, room = [], chunk
    join()
    if current:
        yield current


def expect(received: Received, where: str, need: int = 0) -> Any:
    """Return a reply that is no refusal.

    Raises:
        FullError: there is no room for `need` bytes.
        BrokenError: the server refuses.
    """
    reply = received.reply
    if isinstance(reply, Full):
        raise FullError(
            f"{where}, which has {reply.used} of {reply.limit} bytes in use",
            need,
            "evict objects, or have its first user choose another max_bytes",
        )
    if isinstance(reply, Refused):
        raise BrokenError(where, reply.why)
    return reply


def store(
    link: Link,
    where: str,
    name: str,
    flat: Sequence[bytes | memoryview],
    *,
    chunk: int,
    writer: Callable[[], str],
    absent: bool = False,
    lease: float | None = None,
) -> bool:
    """Store an object, whole or not at all; False if it should be absent and is not.

    Args:
        link: to the server.
        where: what errors call it.
        name: of the object.
        flat: its pieces.
        chunk: bytes of a chunk.
        writer: returns what the server is to look at to see whether we live.
        absent: store it only if there is none.
        lease: seconds until it may go.
    """
    size = total(flat)
    if size <= chunk:
        put = link.ask(*small(name, flat, chunk, absent=absent, lease=lease))
        return bool(expect(put, where, size).value)
    begun = link.ask(Begin(name, size, writer(), absent, lease))
    draft = expect(begun, where, size).value
    if not draft:
        return False
    for frames in cut(flat, chunk):
        link.send(Part(draft), frames)
    return bool(expect(link.ask(Finish(draft)), where, size).value)


def small(
    name: str,
    flat: Sequence[bytes | memoryview],
    chunk: int,
    *,
    absent: bool = False,
    lease: float | None = None,
) -> tuple[Request, Frames]:
    """Return the request that stores an object of one chunk."""
    frames: Frames = next(cut(flat, chunk), ())
    return Put(name, total(flat), absent, lease), frames


def fetch(link: Link, where: str, name: str) -> memoryview | bytes | None:
    """Return an object, None if there is none."""
    return _whole(link, where, name, link.ask(Get(name)))


def fetch_all(link: Link, where: str, names: Sequence[str]) -> list[memoryview | bytes | None]:
    """Return objects, None for each that is missing."""
    out: list[memoryview | bytes | None] = [None] * len(names)
    large: list[int] = []
    # Their first chunks: an object that has more is asked for again, so that few lie about unfinished.
    requests: list[tuple[Request, Frames]] = [(Get(name), ()) for name in names]
    window = _CHUNKS_AHEAD if len(names) <= _CHUNKS_AHEAD else SMALL_AHEAD // 2
    for number, received in enumerate(link.run(requests, window)):
        reply = expect(received, where)
        if isinstance(reply, Found) and reply.chunks > 1:
            large.append(number)
        else:
            out[number] = _whole(link, where, names[number], received)
    for number in large:
        out[number] = fetch(link, where, names[number])
    return out


def fetch_range(
    link: Link, where: str, name: str, offset: int, size: int, chunk: int
) -> memoryview | bytes | None:
    """Return up to `size` bytes of an object from `offset`, None if there is no object."""
    received = link.ask(Range(name, offset, min(size, chunk)))
    head = expect(received, where)
    if isinstance(head, Missing):
        return None
    start, stop = min(offset, head.size), min(offset + size, head.size)
    if stop - start <= chunk:
        return received.frames[0].bytes  # type: ignore[no-any-return]
    target = room(stop - start)
    _place(target, 0, received.frames)
    edges = [*range(start + chunk, stop, chunk), stop]
    requests: Iterator[tuple[Request, Frames]] = (
        (Range(name, a, b - a, head.serial), ()) for a, b in pairwise(edges)
    )
    done = chunk
    for part in link.run(requests, _CHUNKS_AHEAD):
        if isinstance(expect(part, where), Missing):
            return None
        done = _place(target, done, part.frames)
    return target


def _whole(link: Link, where: str, name: str, first: Received) -> memoryview | bytes | None:
    """Return the object whose first chunk came."""
    head = expect(first, where)
    if isinstance(head, Missing):
        return None
    if head.chunks <= 1 and len(first.frames) == 1:
        # As it was received; a small one out of the buffer that it may share with others.
        frame = first.frames[0]
        return frame.bytes if head.size < _JOINED else memoryview(frame.buffer)
    target = room(head.size)
    done = _place(target, 0, first.frames)
    requests: Iterator[tuple[Request, Frames]] = (
        (Get(name, number, head.serial), ()) for number in range(1, head.chunks)
    )
    gone = False
    for received in link.run(requests, _CHUNKS_AHEAD):
        if isinstance(expect(received, where), Missing):
            gone = True  # evicted between two chunks; the other replies are still to be read
        elif not gone:
            done = _place(target, done, received.frames)
    if gone:
        return None
    if done != head.size:
        raise BrokenError(where, f"it sent {done} bytes of an object of {head.size}")
    return target


def _place(target: memoryview, done: int, frames: Sequence[Any]) -> int:
    for frame in frames:
        end = done + len(frame)
        target[done:end] = frame.buffer
        done = end
    return done
