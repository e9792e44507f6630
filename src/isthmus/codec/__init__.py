"""Objects to buffers and back, without copying what is large.

`encode` gives a list of buffers in which arrays, tables and tensors are views of the object itself;
`decode` gives an object whose arrays are views of the data. Decoding runs what the data says, as any
pickle does: decode only what comes from processes that you trust. Daemons never decode.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from isthmus.codec import frame
from isthmus.codec.callables import ByValueWarning, load_callable, pack_callable
from isthmus.codec.devices import original_devices
from isthmus.codec.frame import Buffer, Tag
from isthmus.codec.pickling import dumps, loads
from isthmus.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "Buffer",
    "ByValueWarning",
    "CodecError",
    "Deserializer",
    "Serializer",
    "decode",
    "deserialize",
    "encode",
    "join",
    "load_callable",
    "original_devices",
    "pack_callable",
    "serialize",
    "size",
]

Serializer: TypeAlias = "Callable[[Any], bytes | list[Buffer]]"
"""What a store takes in place of :func:`encode`."""
Deserializer: TypeAlias = "Callable[[Buffer], Any]"
"""What a store takes in place of :func:`decode`."""


def encode(obj: Any) -> list[Buffer]:
    """Return the object as a list of buffers, to be stored or sent one after the other.

    Large buffers are views of the object: change it only after they have been written.

    Raises:
        CodecError: names the part of the object that cannot travel, and what to do about it.
    """
    kind = type(obj)
    if kind is bytes:
        return frame.pack_one(Tag.BYTES, b"", obj)
    if kind is str:
        # Lone surrogates are legal in a str, so they have to survive.
        return frame.pack_one(Tag.STR, b"", obj.encode("utf-8", "surrogatepass"))
    if kind is bytearray:
        return frame.pack_one(Tag.BYTEARRAY, b"", memoryview(obj))
    if kind is memoryview and obj.format == "B" and obj.ndim == 1 and obj.c_contiguous:
        return frame.pack_one(Tag.MEMORYVIEW, b"r" if obj.readonly else b"w", obj)
    numpy = sys.modules.get("numpy")
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        from isthmus.codec.arrays import encode_array

        if (plain := encode_array(obj)) is not None:
            return frame.pack_one(Tag.NDARRAY, *plain)
    return frame.pack(Tag.PICKLE, *dumps(obj))


def decode(data: Buffer) -> Any:
    """Return the object that `encode` was given.

    Arrays, tables and memoryviews are views of `data`, which they keep alive. An array is writable
    exactly if `data` is, whatever the original was; a memoryview only if both are. ``bytes``,
    ``bytearray`` and polars frames are copies, and torch tensors are if `data` is read-only.

    Raises:
        CodecError: the bytes are foreign, truncated or damaged, or the object cannot be rebuilt here.
    """
    tag, metadata, buffers = frame.unpack(data)
    if tag == Tag.PICKLE:
        return loads(metadata, buffers)
    if len(buffers) != 1:
        raise CodecError(f"damaged: {len(buffers)} buffers under tag {tag}, which has one")
    if tag == Tag.BYTES:
        return bytes(buffers[0])
    if tag == Tag.NDARRAY:
        from isthmus.codec.arrays import decode_array

        return decode_array(metadata, buffers[0])
    if tag == Tag.STR:
        try:
            return str(buffers[0], "utf-8", "surrogatepass")
        except UnicodeDecodeError as e:
            raise CodecError("damaged: a string is not UTF-8", e) from e
    if tag == Tag.BYTEARRAY:
        return bytearray(buffers[0])
    if tag == Tag.MEMORYVIEW:
        return buffers[0].toreadonly() if bytes(metadata) == b"r" else buffers[0]
    raise CodecError(f"unknown tag {tag}: encoded by a newer isthmus, which is needed to read it")


def size(pieces: Iterable[Buffer]) -> int:
    """Return the total length of encoded pieces in bytes."""
    return sum(map(len, pieces))


def join(pieces: Iterable[Buffer]) -> bytes:
    """Return encoded pieces as one ``bytes``, for a channel that takes nothing else (a copy)."""
    return b"".join(pieces)


def serialize(obj: Any) -> bytes:
    """Return the object as one ``bytes``: what a custom serializer falls back to."""
    return join(encode(obj))


def deserialize(data: Buffer) -> Any:
    """Return the object that `serialize` was given."""
    return decode(data)
