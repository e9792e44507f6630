"""What clients and servers say to each other: a header in MessagePack, then frames of opaque bytes.

A header is one of the structs below, as an array that begins with a number for its type. Replies come
in the order of the requests, but for `Wait`'s. Whatever cannot be read is ignored.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

__all__ = [
    "Answer",
    "Begin",
    "Clear",
    "Entries",
    "EntryInfo",
    "Evict",
    "Exists",
    "Finish",
    "Found",
    "Full",
    "Get",
    "Hello",
    "Lease",
    "ListEntries",
    "Missing",
    "Part",
    "Put",
    "Range",
    "Refused",
    "Renew",
    "Renewed",
    "Reply",
    "Request",
    "Stat",
    "Sweep",
    "Wait",
    "Welcome",
    "read_reply",
    "read_request",
    "write",
]


# What comes from outside and could do harm is refused before anybody looks at it.
_Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=64)]
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class _Message(msgspec.Struct, array_like=True):
    pass


class Hello(_Message, tag=0):
    """The first request: says how long the client wants the server to outlive its last user."""

    linger: float = 0.0


class Put(_Message, tag=1):
    """An object of one chunk, in the frames that follow."""

    name: _Name
    size: _Size
    absent: bool = False
    """Only if there is none."""
    lease: _Seconds | None = None


class Begin(_Message, tag=2):
    """The announcement of an object of several chunks: room is booked for it."""

    name: _Name
    size: _Size
    writer: _Name
    """Name of a file that the writing process has locked; empty if it is on another node."""
    absent: bool = False
    lease: _Seconds | None = None


class Part(_Message, tag=3):
    """A chunk of an announced object, in the frames that follow; it has no reply."""

    draft: int


class Finish(_Message, tag=4):
    """All chunks were sent."""

    draft: int


class Get(_Message, tag=5):
    """One chunk of an object."""

    name: _Name
    number: _Size = 0
    serial: int = 0
    """Of the object that chunk 0 was from, if it is not chunk 0."""


class Range(_Message, tag=6):
    """Some bytes of an object."""

    name: _Name
    offset: _Size
    size: _Size
    serial: int = 0


class Exists(_Message, tag=7):
    """Is there an object?"""

    name: _Name


class Evict(_Message, tag=8):
    """Delete an object."""

    name: _Name


class Stat(_Message, tag=9):
    """What is known of an object?"""

    name: _Name


class Wait(_Message, tag=10):
    """Answer when there is an object, or after some seconds."""

    name: _Name
    seconds: float


class ListEntries(_Message, tag=11):
    """What is known of objects stored after one of them?"""

    after: int = 0


class Clear(_Message, tag=12):
    """Delete every object."""


class Sweep(_Message, tag=13):
    """Delete what killed writers left, and what is overdue."""


class Lease(_Message, tag=14):
    """Give an object a deadline, or none."""

    name: _Name
    seconds: _Seconds | None


class Renew(_Message, tag=15):
    """Begin the periods of several leases anew."""

    names: list[_Name]


Request: TypeAlias = (
    Hello
    | Put
    | Begin
    | Part
    | Finish
    | Get
    | Range
    | Exists
    | Evict
    | Stat
    | Wait
    | ListEntries
    | Clear
    | Sweep
    | Lease
    | Renew
)


class Welcome(_Message, tag=32):
    """Who answers."""

    identity: str


class Answer(_Message, tag=33):
    """Yes or no, or how many."""

    value: int


class Found(_Message, tag=34):
    """An object, and in the frames that follow what was asked for of it."""

    size: int
    """Of the whole object."""
    chunks: int
    serial: int
    """Another for each object that was ever stored there."""


class Missing(_Message, tag=35):
    """There is no such object."""


class Full(_Message, tag=36):
    """There is no room."""

    used: int
    limit: int


class Refused(_Message, tag=37):
    """It cannot be done."""

    why: str


class EntryInfo(_Message):
    """What is known of an object."""

    name: str
    size: int
    created: float
    serial: int
    left: float | None = None
    """Seconds until its lease runs out."""


class Entries(_Message, tag=38):
    """What is known of objects; fewer than there are, if `more`."""

    found: list[EntryInfo]
    more: bool = False


class Renewed(_Message, tag=39):
    """Which leases were renewed."""

    done: list[bool]


Reply: TypeAlias = Welcome | Answer | Found | Missing | Full | Refused | Entries | Renewed

_encoder = msgspec.msgpack.Encoder()
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_replies: msgspec.msgpack.Decoder[Reply] = msgspec.msgpack.Decoder(Reply)


def write(message: Request | Reply) -> bytes:
    """Return a header."""
    return _encoder.encode(message)


def read_request(data: bytes | memoryview) -> Request:
    """Return what a client asks.

    Raises:
        msgspec.DecodeError: it is no request.
    """
    return _requests.decode(data)


def read_reply(data: bytes | memoryview) -> Reply:
    """Return what a server answers.

    Raises:
        msgspec.DecodeError: it is no reply.
    """
    return _replies.decode(data)
