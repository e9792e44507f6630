"""What a stream's messages say, in msgpack: where objects lie, what they are about, and that it ended.

::

    [0, version, producer, first, store, made, classes, items]    a batch of items
    [1, version, producer, items, failure]                        the end of one producer

No message has a pickle in it but the payload of an inline item, which the codec decodes where the item's
proxy is resolved and nowhere else.
"""

from __future__ import annotations

from typing import Any

import msgspec

from isthmus.errors import CodecError

__all__ = ["VERSION", "Batch", "End", "Item", "decode", "encode", "pack_metadata"]

VERSION = 1


class Item(msgspec.Struct, array_like=True, omit_defaults=True):
    """One object of a stream."""

    payload: bytes | None = None
    """The object's encoding, where it travels with its event."""
    key: list[Any] | None = None
    """Where it lies in the batch's store otherwise."""
    size: int = 0
    """Bytes of its encoding."""
    about: int = -1
    """Which of the batch's classes it has."""
    metadata: msgspec.Raw = msgspec.Raw(b"\x80")
    evict: bool = False
    """Whether it is deleted after its last use."""
    uses: dict[str, list[Any]] | None = None
    """Who is to use it, with the key that marks it as done, where there are several."""
    deserializer: str | None = None


class Batch(msgspec.Struct, array_like=True, tag=0):
    """Items that one producer sent to one topic, one after the other."""

    version: int
    producer: str
    first: int
    """Number of the first item: from 0, for each producer and topic."""
    store: bytes | None
    """Configuration of the store that keeps the objects, as in a proxy."""
    made: tuple[int, str]
    """Unix second and host of production."""
    classes: list[tuple[str, str, int]]
    items: list[Item]


class End(msgspec.Struct, array_like=True, tag=1):
    """A producer's last word on a topic."""

    version: int
    producer: str
    items: int
    """How many it has sent."""
    failure: tuple[str, str] | None = None
    """What went wrong, if the producer failed: the error's type and text."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch | End)
_metadata = msgspec.msgpack.Decoder(dict[str, Any])

encode = _encoder.encode


def decode(data: bytes) -> Batch | End:
    """Return what a message says; runs nothing of it.

    Raises:
        CodecError: it is no event of ours, or of another version.
    """
    try:
        event: Batch | End = _decoder.decode(data)
    except msgspec.MsgspecError as error:
        raise CodecError("not an event of a stream", str(error)) from None
    if event.version != VERSION:
        raise CodecError(
            f"an event of version {event.version} reached a process that reads version {VERSION}; "
            "run the same isthmus release on both sides"
        )
    return event


def pack_metadata(metadata: Any) -> msgspec.Raw:
    """Return what an item carries of its metadata.

    Raises:
        CodecError: it is no dictionary of what msgpack has: None, bool, int, float, str, bytes, dates,
            lists and dictionaries.
    """
    try:
        packed = _encoder.encode(metadata)
        _metadata.decode(packed)
    except (msgspec.MsgspecError, TypeError, OverflowError, ValueError) as error:
        raise CodecError(
            "metadata travels as msgpack, without pickles",
            f"{error}; give a dictionary of plain values",
        ) from None
    return msgspec.Raw(packed)


def unpack_metadata(packed: msgspec.Raw) -> dict[str, Any]:
    """Return an item's metadata.

    Raises:
        CodecError: it is damaged.
    """
    try:
        return _metadata.decode(packed)
    except msgspec.MsgspecError as error:
        raise CodecError("an item's metadata", str(error)) from None
