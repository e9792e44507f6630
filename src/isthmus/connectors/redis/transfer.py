"""Objects over a link: cut into chunks and committed, fetched straight into their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from isthmus.connectors.payload import total
from isthmus.connectors.redis.layout import COMMIT, HEAD_BYTES, Head, Layout
from isthmus.connectors.redis.link import RefusedError, command, raise_first
from isthmus.connectors.room import room
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.connectors.redis.link import Command, Link

__all__ = ["FOREIGN", "Transfer"]

FOREIGN = "WRONGTYPE what lies under the key is no object of isthmus"

Pieces: TypeAlias = "list[bytes | memoryview]"

_CHUNKS_AHEAD = 4  # what the server holds in its buffers for one reader or writer, times the chunk
_SMALL_AHEAD = 64


class Transfer:
    """How objects of one layout are written and read.

    Args:
        layout: the keys.
        where: what errors call the server.
        chunk: bytes of each chunk of a new object.
        life: seconds that the server keeps a chunk whose object was never finished.
    """

    def __init__(self, layout: Layout, where: str, chunk: int, life: int) -> None:
        self._layout = layout
        self._where = where
        self._chunk = chunk
        self._life = life

    def whole(self, name: str, flat: Pieces, lease: int, *options: bytes) -> Command:
        """Return the request that stores an object of one chunk, with a lease of so many milliseconds."""
        head = Head.fresh(total(flat), self._chunk, lease).write()
        life: tuple[bytes | int, ...] = (b"PX", lease) if lease else ()
        return command(b"SET", self._layout.manifest(name), [head, *flat], *options, *life)

    def store(self, link: Link, name: str, flat: Pieces, lease: int, bell: bytes) -> bool:
        """Store an object of several chunks if none is there.

        Args:
            link: to the server.
            name: of the object.
            flat: its pieces.
            lease: its milliseconds, 0 for none.
            bell: the channel to ring, or nothing.

        Returns:
            False if there was an object.
        """
        head = Head.fresh(total(flat), self._chunk, lease)
        parts = [self._layout.chunk(name, head.token, n) for n in range(head.chunks + 1)]
        contents = _cut(flat, self._chunk)
        contents[0].insert(0, head.write())
        refused: RefusedError | None = None

        def requests() -> Iterator[Command]:
            for part, content in zip(parts, contents, strict=True):
                if refused is not None:  # a full server need not be sent the rest
                    return
                yield command(b"SET", part, content, b"EX", self._life)

        for reply in link.run(requests(), window=_CHUNKS_AHEAD):
            if type(reply) is RefusedError:
                refused = refused or reply
        if refused is not None:
            list(link.run((command(b"UNLINK", part) for part in parts), window=_SMALL_AHEAD))
            raise refused
        manifest, token = self._layout.manifest(name), head.token.encode()
        life = b"%d" % lease if lease else b""
        commit = command(b"EVAL", COMMIT, 1, manifest, token, head.chunks, bell, life)
        (won,) = raise_first(link.run([commit], window=1))
        if won == -1:
            raise BrokenError(
                self._where,
                f"it deleted chunks of an object of {head.size} bytes before the last one was written: "
                f"that took longer than unfinished_seconds={self._life}, or its maxmemory-policy chose "
                "them; nothing was stored",
            )
        return bool(won)

    def fetch(self, link: Link, names: Sequence[str]) -> list[memoryview | None]:
        """Return objects, None for each that is missing.

        Raises:
            BrokenError: the server lost a part of one.
        """
        requests = (command(b"GET", self._layout.manifest(name)) for name in names)
        window = _SMALL_AHEAD if len(names) > _CHUNKS_AHEAD else _CHUNKS_AHEAD
        firsts: list[Any] = raise_first(
            link.run(requests, window=window, read=lambda: _first(link))
        )
        return [
            None if first is None else self._rest(link, name, *first)
            for name, first in zip(names, firsts, strict=True)
        ]

    def fetch_range(
        self, link: Link, name: str, offset: int, size: int
    ) -> memoryview | bytes | None:
        """Return a part of an object, from the chunks that have it."""
        head = self._head(link, name)
        if head is None:
            return None
        start, stop = min(offset, head.size), min(offset + size, head.size)
        if start == stop:
            return b""
        target = room(stop - start)
        requests, places = [], []
        for number in range(start // head.chunk, (stop - 1) // head.chunk + 1):
            origin = number * head.chunk
            first, end = max(start, origin), min(stop, origin + head.chunk)
            places.append(target[first - start : end - start])
            if number:
                source = self._layout.chunk(name, head.token, number)
            else:
                source, origin = self._layout.manifest(name), -HEAD_BYTES
            requests.append(command(b"GETRANGE", source, first - origin, end - 1 - origin))
        if _fill(link, requests, places):
            return target
        return self.fetch_range(link, name, offset, size) if self._anew(link, name, head) else None

    def look(self, name: str) -> Command:
        """Return the request for an object's head."""
        return command(b"GETRANGE", self._layout.manifest(name), 0, HEAD_BYTES - 1)

    def _rest(self, link: Link, name: str, head: Head, target: memoryview) -> memoryview | None:
        numbers = range(1, head.chunks + 1)
        requests = [command(b"GET", self._layout.chunk(name, head.token, n)) for n in numbers]
        places = [target[n * head.chunk : (n + 1) * head.chunk] for n in numbers]
        if _fill(link, requests, places):
            return target
        return self.fetch(link, [name])[0] if self._anew(link, name, head) else None

    def _anew(self, link: Link, name: str, head: Head) -> bool:
        """Say why a chunk was missing: False if the object was evicted, True if stored anew since."""
        now = self._head(link, name)
        if now is not None and now.token == head.token:
            raise BrokenError(
                self._where,
                f"object {name} of {head.size} bytes lacks some of its {head.chunks + 1} chunks; the "
                "server lost or evicted them (see its maxmemory-policy): evict the object, store it again",
            )
        return now is not None

    def _head(self, link: Link, name: str) -> Head | None:
        (data,) = raise_first(link.run([self.look(name)], window=1))
        if data and (head := Head.read(data)) is None:
            raise RefusedError(FOREIGN)
        return head if data else None


def _first(link: Link) -> tuple[Head, memoryview] | RefusedError | None:
    """Read a manifest: the head, and the whole object's memory with its first chunk in place."""
    size = link.size()
    if size is None or isinstance(size, RefusedError):
        return size
    start = bytearray(min(size, HEAD_BYTES))
    link.fill(memoryview(start))
    head = Head.read(start)
    if head is None or size != HEAD_BYTES + min(head.size, head.chunk):
        link.body(memoryview(bytearray(size - len(start))))
        return RefusedError(FOREIGN)
    target = room(head.size)
    link.body(target[: size - HEAD_BYTES])
    return head, target


def _fill(link: Link, requests: Sequence[Command], places: Sequence[memoryview]) -> bool:
    """Read chunks into their places; False if one is not there, or not as long as it should be."""
    following = iter(places)

    def read() -> Any:
        place, size = next(following), link.size()
        if size is None or isinstance(size, RefusedError):
            return size
        fits = size == len(place)
        link.body(place if fits else memoryview(bytearray(size)))
        return fits

    return all(raise_first(link.run(requests, window=_CHUNKS_AHEAD, read=read)))


def _cut(flat: Pieces, chunk: int) -> list[Pieces]:
    """Cut pieces into chunks of `chunk` bytes, copying nothing."""
    chunks: list[Pieces] = [[]]
    room = chunk
    for piece in flat:
        view = memoryview(piece)
        while len(view):
            if not room:
                chunks.append([])
                room = chunk
            part, view = view[:room], view[room:]
            chunks[-1].append(part)
            room -= len(part)
    return chunks
