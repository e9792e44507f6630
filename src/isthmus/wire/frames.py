"""Frames: a kind and some payloads, behind lengths, over any channel that keeps bytes in order.

::

    0   kind                      8   lengths of all payloads but the last, u64 each
    1   n: number of payloads         payload, payload, ...
    2   size: bytes that follow these eight, u48

All numbers are little-endian. One payload costs 8 bytes, two (a header and bulk data) cost 16. Both ends
work on scatter lists: large payloads are never joined with anything, neither to be sent nor when received.
"""

from __future__ import annotations

from pickle import PickleBuffer
from struct import Struct, unpack_from
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from isthmus.errors import FullError, LocalProtocolError, RemoteProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["DEFAULT_MAX_BYTES", "Buffer", "Frame", "FrameDecoder", "encode"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

DEFAULT_MAX_BYTES = 1 << 30
MAX_PAYLOADS = 255

JOINED = 4096
"""Payloads below this size are copied: that is cheaper than a piece of its own, and than a view that
keeps a whole read alive."""

DIRECT = 1 << 14
"""From this many missing bytes on it pays to receive straight into a payload's own memory."""

_HEAD = Struct("<Q")
_HEADS = [Struct(f"<{max(n, 1)}Q") for n in range(MAX_PAYLOADS + 1)]


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame as it came: small payloads are ``bytes``, others views of memory that is theirs to keep."""

    kind: int
    payloads: tuple[bytes | memoryview, ...]


def encode(payloads: Sequence[Buffer], kind: int = 0) -> list[Buffer]:
    """Return a frame as pieces to be sent one after the other.

    Payloads of 4 KiB and more are pieces as they are, not copied: leave them unchanged until they are sent.

    Args:
        payloads: at most 255 contiguous buffers.
        kind: 0 to 255, free for what lies above.

    Raises:
        LocalProtocolError: a payload is no contiguous buffer, or there are too many.
    """
    count = len(payloads)
    if count == 1 and type(payloads[0]) is bytes and len(payloads[0]) < JOINED and 0 <= kind <= 255:
        return [_HEAD.pack(kind | 256 | len(payloads[0]) << 16) + payloads[0]]
    if count > MAX_PAYLOADS or not 0 <= kind <= 255:
        raise LocalProtocolError(
            f"cannot send a frame of kind {kind} with {count} payloads",
            f"kinds go from 0 to 255, and at most {MAX_PAYLOADS} payloads fit",
        )
    flat = [p if type(p) is bytes else _flat(p) for p in payloads]
    lengths = [len(p) for p in flat]
    size = sum(lengths) + 8 * max(count - 1, 0)
    run: list[Buffer] = [_HEADS[count].pack(kind | count << 8 | size << 16, *lengths[:-1])]
    pieces: list[Buffer] = []
    for length, payload in zip(lengths, flat, strict=True):
        if length < JOINED:
            run.append(payload)
            continue
        if run:
            pieces.append(b"".join(run))
            run = []
        pieces.append(payload)
    if run:
        pieces.append(b"".join(run))
    return pieces


def _flat(payload: Buffer) -> Buffer:
    try:
        view = memoryview(payload)
    except TypeError:
        raise LocalProtocolError(
            f"cannot send a {type(payload).__name__}", "a payload is bytes-like"
        ) from None
    if not view.c_contiguous:
        raise LocalProtocolError("cannot send a payload", "its memory is not C-contiguous")
    if view.ndim == 1 and view.format == "B":
        return view
    return PickleBuffer(view).raw() if view.nbytes else b""


class FrameDecoder:
    """Frames out of bytes, in whatever pieces these come.

    Args:
        max_bytes: what a frame may have behind its first eight bytes; checked before memory is taken.
        allocate: returns memory of so many bytes for a payload that does not come in one piece.
    """

    def __init__(
        self,
        max_bytes: int = DEFAULT_MAX_BYTES,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> None:
        self.max_bytes = max_bytes
        self._allocate = allocate
        self._head = b""  # the first bytes of a frame, fewer than eight
        self._kind = -1  # of the frame underway, whose targets come next
        self._count = 0
        self._size = 0
        self._table: bytearray | None = None
        self._targets: list[memoryview] = []
        self._current = 0
        self._filled = 0  # bytes of the current target
        self._failure: RemoteProtocolError | None = None

    def receive(self, data: Buffer) -> Iterable[Frame]:
        """Take in bytes as they came, and return the frames they complete.

        Large payloads that lie in `data` as a whole are views of it, so it must not change afterwards.

        Raises:
            RemoteProtocolError: the peer sent no frame, or one that is too large. Raised by the iteration,
                after the frames before it; from then on always.
            FullError: there is no memory for a frame.
        """
        if self._failure is not None:
            raise self._failure
        frames: list[Frame] = []
        try:
            if self._kind >= 0:
                at = self._fill(data, frames)
                if at < len(data):
                    self._parse(memoryview(data)[at:], frames)
            elif self._head:
                self._parse(self._head + data, frames)
            else:
                self._parse(data, frames)
        except RemoteProtocolError as error:
            self._failure = error
            if not frames:
                raise
            return _and_then(frames, error)
        return frames

    def next_buffer(self) -> memoryview | None:
        """Return memory to receive into, while a large payload is underway; None otherwise.

        Whatever is written to its start is reported by `received`. Bytes may be given to `receive` instead.
        """
        if self._kind < 0 or self._table is not None:
            return None
        rest = self._targets[self._current][self._filled :]
        return rest if len(rest) >= DIRECT else None

    def received(self, n: int) -> Iterable[Frame]:
        """Return the frame that `n` more bytes in the memory of `next_buffer` complete, if they do.

        Raises:
            LocalProtocolError: there was no such memory.
        """
        buffer = self.next_buffer()
        if buffer is None or not 0 <= n <= len(buffer):
            raise LocalProtocolError(f"received {n} bytes", "no memory was given out for them")
        self._filled += n
        frames: list[Frame] = []
        self._advance(frames)
        return frames

    @property
    def missing(self) -> int:
        """Bytes that the frame underway still lacks; 0 between frames."""
        if self._kind < 0:
            return 8 - len(self._head) if self._head else 0
        if self._table is not None:
            return self._size - self._filled
        return sum(len(t) for t in self._targets[self._current :]) - self._filled

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            RemoteProtocolError: a frame was underway; nothing of it is ever returned.
        """
        if self.missing:
            raise RemoteProtocolError(
                "the stream ended within a frame", f"{self.missing} bytes of it did not come"
            )

    def _parse(self, data: Buffer, frames: list[Frame]) -> None:
        """Append the frames that lie whole in `data`, which starts with one; keep the rest."""
        at, end = 0, len(data)
        limit = self.max_bytes
        while end - at >= 8:
            (word,) = _HEAD.unpack_from(data, at)
            size = word >> 16
            count = word >> 8 & 255
            if size > limit or size < 8 * (count - 1) or (size and not count):
                raise self._refusal(bytes(data[at : at + 8]), size, count)
            start, at = at + 8, at + 8 + size
            if at > end:
                self._begin(word & 255, count, size)
                rest = memoryview(data)[start:]
                self._fill(rest, frames)
                return
            if count == 1:
                if size < JOINED:
                    small = data[start:at] if type(data) is bytes else bytes(data[start:at])
                    frames.append(Frame(word & 255, (small,)))
                else:
                    frames.append(Frame(word & 255, (memoryview(data)[start:at],)))
            else:
                lengths = self._lengths(data, start, count, size)
                start += 8 * max(count - 1, 0)
                frames.append(Frame(word & 255, tuple(_split(data, start, lengths))))
        self._head = bytes(data[at:])

    def _refusal(self, head: bytes, size: int, count: int) -> RemoteProtocolError:
        if size > self.max_bytes and count:
            return RemoteProtocolError(
                f"the peer sends a frame of {size} bytes",
                f"at most {self.max_bytes} are taken; raise the limit here, or send smaller ones",
            )
        return RemoteProtocolError(
            "the peer sends no frame",
            f"one does not start with {head!r}; is it isthmus of this version?",
        )

    def _lengths(self, data: Buffer, at: int, count: int, size: int) -> list[int]:
        """Return the lengths of all payloads, the last one being what the others leave."""
        if not count:
            return []
        lengths = [*unpack_from(f"<{count - 1}Q", data, at)]
        last = size - 8 * (count - 1) - sum(lengths)
        if last < 0:
            raise RemoteProtocolError(
                "the peer sends no frame", f"payloads of {lengths} bytes do not fit into {size}"
            )
        return [*lengths, last]

    def _begin(self, kind: int, count: int, size: int) -> None:
        """Get ready for a frame whose first eight bytes are there and whose last is not."""
        self._head = b""
        self._kind, self._count, self._size = kind, count, size
        self._filled = 0
        if count == 1:
            self._take([size])
        else:
            self._table = bytearray(8 * (count - 1))

    def _take(self, lengths: list[int]) -> None:
        try:
            self._targets = [
                memoryview(bytearray(n) if n < DIRECT else self._allocate(n)) for n in lengths
            ]
        except MemoryError:
            hint = "lower the limit of a frame, or run where there is more"
            raise FullError("memory for a frame", self._size, hint) from None
        self._current = self._filled = 0

    def _fill(self, data: Buffer, frames: list[Frame]) -> int:
        """Copy into the frame underway until it is complete; return how many bytes were used."""
        view, at = memoryview(data), 0
        while self._kind >= 0:
            target = self._targets[self._current] if self._table is None else self._table
            n = min(len(view) - at, len(target) - self._filled)
            target[self._filled : self._filled + n] = view[at : at + n]
            at += n
            self._filled += n
            if self._filled < len(target):
                break
            if self._table is not None:
                lengths = self._lengths(self._table, 0, self._count, self._size)
                self._table = None
                self._take(lengths)
            self._advance(frames)
        return at

    def _advance(self, frames: list[Frame]) -> None:
        """Go on to the first payload that lacks something; past the last one, the frame is complete."""
        targets = self._targets
        while self._filled == len(targets[self._current]):
            self._current += 1
            self._filled = 0
            if self._current == len(targets):
                done = tuple(bytes(t) if len(t) < JOINED else t for t in targets)
                frames.append(Frame(self._kind, done))
                self._kind, self._targets = -1, []
                return


def _split(data: Buffer, at: int, lengths: list[int]) -> Iterator[bytes | memoryview]:
    view = memoryview(data)
    for length in lengths:
        payload = view[at : at + length]
        yield bytes(payload) if length < JOINED else payload
        at += length


def _and_then(frames: list[Frame], error: Exception) -> Iterator[Frame]:
    yield from frames
    raise error
