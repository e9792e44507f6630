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
from typing import TYPE_CHECKING, NamedTuple

from isthmus.connectors.naming import is_name

if TYPE_CHECKING:
    from isthmus.connectors.leases import Terms

__all__ = ["COMMIT", "EVICT", "HEAD_BYTES", "LEASE", "Head", "Layout", "milliseconds"]

_LONGEST_MILLISECONDS = 0xFFFFFFFFF  # as many digits as a head has room for: two years

HEAD_BYTES = 64
_HEAD = re.compile(
    rb"isthmus1 ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]+) ([0-9a-f]{12})(?: ([0-9a-f]+))? *\n"
)

COMMIT = b"""
local parts = KEYS[1] .. ':' .. ARGV[1] .. ':'
local last = tonumber(ARGV[2])
local won = 1
for i = 0, last do
  local kept
  if ARGV[4] == '' then kept = redis.call('PERSIST', parts .. i)
  else kept = redis.call('PEXPIRE', parts .. i, ARGV[4]) end
  if kept == 0 then won = -1 end
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
become an object is deleted. Arguments: token, last number, the channel to ring or an empty string, the
milliseconds of its lease or an empty string."""

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

LEASE = b"""
local done = {}
for n, manifest in ipairs(KEYS) do
  local head = redis.call('GETRANGE', manifest, 0, 63)
  local size, chunk, made, token, lease =
    string.match(head, '^isthmus1 (%x+) (%x+) (%x+) (%x+) ?(%x*) *\\n$')
  if head == '' then done[n] = 0
  elseif not size then done[n] = -1
  elseif ARGV[1] == 'renew' and lease == '' then done[n] = 0
  else
    if ARGV[1] ~= 'renew' and lease ~= ARGV[1] then
      lease = ARGV[1]
      local text = 'isthmus1 ' .. size .. ' ' .. chunk .. ' ' .. made .. ' ' .. token
      if lease ~= '' then text = text .. ' ' .. lease end
      if #text > 63 then return redis.error_reply('ERR the object is too large for a lease') end
      redis.call('SETRANGE', manifest, 0, text .. string.rep(' ', 63 - #text) .. '\\n')
    end
    for i = 0, math.max(0, math.ceil(tonumber(size, 16) / tonumber(chunk, 16)) - 1) do
      local key = manifest
      if i > 0 then key = manifest .. ':' .. token .. ':' .. i end
      if lease == '' then redis.call('PERSIST', key)
      else redis.call('PEXPIRE', key, tonumber(lease, 16)) end
    end
    done[n] = 1
  end
end
return done
"""
"""Begin a lease on several objects, chunks included, all at one moment of the server's clock. For each: 1
done, 0 there is no object or no lease to renew, -1 the key is somebody else's. Argument: its milliseconds
in hex, an empty string for none, or ``renew``."""


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
    lease: int = 0
    """Milliseconds of its lease, 0 without one. When it ends is the key's time to live."""

    @classmethod
    def fresh(cls, size: int, chunk: int, lease: int = 0) -> Head:
        """Return the head of an object that is about to be stored."""
        return cls(size, chunk, time.time(), os.urandom(6).hex(), lease)

    @classmethod
    def read(cls, data: bytes | bytearray | memoryview) -> Head | None:
        """Return the head that some bytes begin with, None if they are not a manifest."""
        found = _HEAD.fullmatch(data[:HEAD_BYTES])
        if found is None:
            return None
        size, chunk, created, lease = (int(found[i] or b"0", 16) for i in (1, 2, 3, 5))
        return cls(size, chunk, created / 1000, found[4].decode(), lease) if chunk else None

    def write(self) -> bytes:
        """Return the 64 bytes."""
        text = f"isthmus1 {self.size:x} {self.chunk:x} {int(self.created * 1000):x} {self.token}"
        if self.lease:
            text = f"{text} {self.lease:x}"
        if len(text) >= HEAD_BYTES:
            raise ValueError(
                f"an object of {self.size} bytes with a lease needs a larger chunk_bytes"
            )
        return text.encode().ljust(HEAD_BYTES - 1) + b"\n"

    @property
    def chunks(self) -> int:
        """Number of chunks beside the one in the manifest."""
        return max(0, -(-self.size // self.chunk) - 1)


def milliseconds(given: Terms | None) -> int:
    """Return the length of a lease as the server counts it, 0 for none.

    Raises:
        ValueError: it is longer than two years.
    """
    if given is None:
        return 0
    length = max(1, round(given.seconds * 1000))
    if length > _LONGEST_MILLISECONDS:
        raise ValueError(
            f"a lease of {given.seconds:g} s is too long; give none, and evict the object"
        )
    return length


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
