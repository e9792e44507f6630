"""How an object lies in a Redis database, and the scripts that make it appear and vanish at once.

``PREFIX:{NAME}`` is the manifest: a head of 64 bytes and the object's first chunk, which is all of it
where it is small. ``PREFIX:{NAME}:TOKEN:N`` are the chunks from the second on. The token is of one `put`
alone, so a manifest never meets chunks of another. The braces put all of an object into one slot of
a cluster. The head is text, so that scripts, and people with ``redis-cli``, can read it.

All chunks are written first, the manifest too, as number 0, and the server would delete each of them after
a while. One script then makes them permanent and renames number 0. So an object appears whole or
not at all, and what a killed writer left goes by itself, by the server's clock.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

from isthmus.connectors.naming import is_name

__all__ = ["COMMIT", "EVICT", "HEAD_BYTES", "Head", "Layout"]

HEAD_BYTES = 64
_HEAD = re.compile(rb"isthmus1 ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]{12}) *\n")

COMMIT = b"""
local parts = KEYS[1] .. ':' .. ARGV[1] .. ':'
local last = tonumber(ARGV[2])
local won = 1
for i = 0, last do
  if redis.call('PERSIST', parts .. i) == 0 then won = -1 end
end
if won == 1 then won = redis.call('RENAMENX', parts .. '0', KEYS[1]) end
if won ~= 1 then
  for i = 0, last do redis.call('UNLINK', parts .. i) end
elseif ARGV[3] ~= '' then
  redis.call('PUBLISH', ARGV[3], '')
end
return won
"""
"""Make the chunks of a token an object: 1 done, 0 there is one already, -1 a chunk is gone. What does not
become an object is deleted. Arguments: token, last number, the channel to ring or an empty string."""

EVICT = b"""
local head = redis.call('GETRANGE', KEYS[1], 0, 63)
if head == '' then return 0 end
local size, chunk, token = string.match(head, '^isthmus1 (%x+) (%x+) %x+ (%x+)')
if not size then return -1 end
redis.call('UNLINK', KEYS[1])
for i = 1, math.ceil(tonumber(size, 16) / tonumber(chunk, 16)) - 1 do
  redis.call('UNLINK', KEYS[1] .. ':' .. token .. ':' .. i)
end
return 1
"""
"""Delete an object at once, chunks included: 1 done, 0 there was none, -1 the key is somebody else's."""


class Head(NamedTuple):
    """What a manifest says of its object."""

    size: int
    """Bytes of the whole object."""
    chunk: int
    """Bytes of each chunk but the last."""
    created: float
    """Unix time in seconds, by its producer's clock."""
    token: str
    """Of the `put` that stored it."""

    @classmethod
    def fresh(cls, size: int, chunk: int) -> Head:
        """Return the head of an object that is about to be stored."""
        return cls(size, chunk, time.time(), os.urandom(6).hex())

    @classmethod
    def read(cls, data: bytes | bytearray | memoryview) -> Head | None:
        """Return the head that some bytes begin with, None if they are not a manifest."""
        found = _HEAD.fullmatch(data[:HEAD_BYTES])
        if found is None:
            return None
        size, chunk, milliseconds = (int(found[i], 16) for i in (1, 2, 3))
        return cls(size, chunk, milliseconds / 1000, found[4].decode()) if chunk else None

    def write(self) -> bytes:
        """Return the 64 bytes."""
        text = f"isthmus1 {self.size:x} {self.chunk:x} {int(self.created * 1000):x} {self.token}"
        return text.encode().ljust(HEAD_BYTES - 1) + b"\n"

    @property
    def chunks(self) -> int:
        """Number of chunks beside the one in the manifest."""
        return max(0, -(-self.size // self.chunk) - 1)


class Layout:
    """The names of keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self._start = f"{prefix}:{{".encode()
        self._chunk = re.compile(re.escape(self._start) + rb"([^{}]*)\}:([0-9a-f]{12}):[0-9]+")
        glob = re.sub(rb"([\\*?\[\]])", rb"\\\1", self._start)
        self.manifests = glob + b"*}"
        """Pattern for SCAN that matches manifests, and no chunk."""
        self.parts = glob + b"*}:*"
        """Pattern for SCAN that matches chunks, and no manifest."""

    def manifest(self, name: str) -> bytes:
        """Return the key of an object's manifest, which is its doorbell's channel too."""
        return self._start + name.encode() + b"}"

    def chunk(self, name: str, token: str, number: int) -> bytes:
        """Return the key of a chunk, counted from 1."""
        return b"%s%s}:%s:%d" % (self._start, name.encode(), token.encode(), number)

    def name(self, key: bytes) -> str | None:
        """Return the name of the object whose manifest lies under `key`; None if it is not ours."""
        if not key.startswith(self._start) or not key.endswith(b"}"):
            return None
        name = key[len(self._start) : -1].decode("ascii", "replace")
        return name if is_name(name) else None

    def owner(self, key: bytes) -> tuple[str, str] | None:
        """Return the name and the token that a chunk belongs to; None if it is not ours."""
        found = self._chunk.fullmatch(key)
        if found is None or not is_name(name := found[1].decode("ascii", "replace")):
            return None
        return name, found[2].decode()
