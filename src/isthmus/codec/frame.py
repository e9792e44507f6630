"""The wire form: one header, the metadata, then buffers that start at multiples of 64 bytes.

::

    0   magic "isth"        8   n: number of buffers     24  lengths of the n buffers, u64 each
    4   version             12  CRC-32 (see below)           (offset, length) of the p plain runs, u64 each
    5   tag                 16  length of the metadata       metadata, zeros up to 64, buffer, zeros, ...
    6   p: plain runs

All numbers are little-endian. The checksum covers everything up to the end of the metadata except itself
and the *plain runs*: long bytes and strings inside the metadata, whose content cannot mislead a decoder.
So what steers decoding is verified and bulk data costs nothing. The total length must be exact, which
is what finds a truncated object at once, before anything is allocated.
"""

from __future__ import annotations

from struct import Struct, error, unpack_from
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from zlib import crc32

from isthmus.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALIGNMENT", "Buffer", "Frame", "Tag", "pack", "pack_one", "unpack"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"
"""One run of bytes; a memoryview must be C-contiguous."""

ALIGNMENT = 64
"""Bytes; a cache line, and what Arrow and vectorised loops ask for."""

MAGIC = b"isth"
VERSION = 1
PLAIN_RUN = 1 << 16
"""From this length on, C pickle hands a bytes-like to its file as it is instead of copying it."""
MAX_BUFFERS = 2**32 - 1
MAX_RUNS = 2**16 - 1

_head = Struct("<4sBBHIIQ")
_head_of_one = Struct("<4sBBHIIQQ")
_seal = Struct("<I")
_ZEROS = [bytes(n) for n in range(ALIGNMENT)]


class Tag:
    """What the metadata and buffers of a frame hold."""

    PICKLE = 0
    BYTES = 1
    STR = 2
    BYTEARRAY = 3
    MEMORYVIEW = 4
    NDARRAY = 5


class Frame(NamedTuple):
    """A frame taken apart; both fields are views of the data."""

    tag: int
    metadata: memoryview
    buffers: list[memoryview]


def pack(tag: int, metadata: Sequence[Buffer], buffers: Sequence[Sequence[Buffer]]) -> list[Buffer]:
    """Return the pieces of a frame; none of the given buffers is copied.

    Args:
        tag: one of :class:`Tag`.
        metadata: the metadata's pieces, in order.
        buffers: each buffer as its pieces, in order.
    """
    lengths = [sum(map(len, pieces)) for pieces in buffers]
    if len(lengths) > MAX_BUFFERS:
        raise CodecError(
            f"an object has {len(lengths)} separate buffers, at most {MAX_BUFFERS} fit"
        )
    size = sum(map(len, metadata))
    runs: list[int] = []
    if size > PLAIN_RUN:
        at = 0
        for piece in metadata:
            # C pickle ends a frame soon after 64 KiB, so a piece this long is payload, alone in its write.
            if len(piece) > 2 * PLAIN_RUN and len(runs) < 2 * MAX_RUNS:
                runs += at, len(piece)
            at += len(piece)
    head = bytearray(
        _head.pack(MAGIC, VERSION, tag, len(runs) // 2, len(lengths), 0, size)
        + Struct(f"<{len(lengths) + len(runs)}Q").pack(*lengths, *runs)
    )
    check = crc32(head)
    skip = {runs[i] for i in range(0, len(runs), 2)}
    at = 0
    for piece in metadata:
        if at not in skip:
            check = crc32(piece, check)
        at += len(piece)
    _seal.pack_into(head, 12, check)
    out: list[Buffer] = [bytes(head), *metadata]
    at = len(head) + size
    for length, pieces in zip(lengths, buffers, strict=True):
        if gap := -at % ALIGNMENT:
            out.append(_ZEROS[gap])
        out += pieces
        at += gap + length
    return out


def pack_one(tag: int, metadata: bytes, buffer: Buffer) -> list[Buffer]:
    """Return what ``pack(tag, [metadata], [[buffer]])`` does, in fewer pieces and a third of the time."""
    sizes = len(metadata), len(buffer)
    check = crc32(metadata, crc32(_head_of_one.pack(MAGIC, VERSION, tag, 0, 1, 0, *sizes)))
    head = _head_of_one.pack(MAGIC, VERSION, tag, 0, 1, check, *sizes)
    return [head + metadata + _ZEROS[-(len(head) + sizes[0]) % ALIGNMENT], buffer]


def unpack(data: Buffer) -> Frame:
    """Take a frame apart without copying.

    Raises:
        CodecError: the bytes are not ours, cut short, too long, or damaged.
    """
    try:
        view = memoryview(data)
    except TypeError:
        raise CodecError(f"only bytes can be decoded, got a {type(data).__name__}") from None
    if view.format != "B" or view.ndim != 1 or not view.c_contiguous:
        try:
            view = view.cast("B")
        except TypeError as e:
            raise CodecError(
                "cannot decode a memoryview with strides", f"{e}; give one run of bytes"
            ) from e
    total = len(view)
    try:
        magic, version, tag, n_runs, n, check, size = _head.unpack_from(view)
    except error:
        raise CodecError(
            f"an encoded object has at least {_head.size} bytes, got {total}"
        ) from None
    if magic != MAGIC:
        raise CodecError(
            f"not encoded by isthmus: starts with {bytes(magic)!r}, not {MAGIC!r}; "
            "give the deserializer that belongs to the serializer"
        )
    if version != VERSION:
        raise CodecError(
            f"encoded in version {version} of the format; this isthmus reads {VERSION}"
        )
    start = _head.size + 8 * (n + 2 * n_runs)
    if start + size > total:
        raise CodecError(f"cut short: the header needs {start + size} bytes, got {total}")
    table = unpack_from(f"<{n + 2 * n_runs}Q", view, _head.size)
    end = at = start + size
    buffers = []
    for i in range(n):
        at += -at % ALIGNMENT
        stop = at + table[i]
        if stop > total:
            break
        buffers.append(view[at:stop])
        at = stop
    if _checksum(view, start, size, table[n:]) != check:
        raise CodecError("damaged: the checksum of header and metadata does not match")
    if at != total or len(buffers) != n:
        need = end
        for length in table[:n]:
            need += -need % ALIGNMENT + length
        raise CodecError(f"wrong length: the header needs {need} bytes, got {total}")
    return Frame(tag, view[start:end], buffers)


def _checksum(view: memoryview, start: int, size: int, runs: Sequence[int]) -> int:
    # The table follows the seal, so head and metadata are two stretches unless there are plain runs.
    check = crc32(_ZEROS[4], crc32(view[:12]))
    if not runs:
        return crc32(view[16 : start + size], check)
    check = crc32(view[16:start], check)
    at = 0
    for offset, length in zip(runs[::2], runs[1::2], strict=True):
        if offset < at or offset + length > size:
            return -1
        check = crc32(view[start + at : start + offset], check)
        at = offset + length
    return crc32(view[start + at : start + size], check)
