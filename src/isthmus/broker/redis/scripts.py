"""What the server does in one step: each is a script, so that nothing comes between its parts.

A log is a stream and a hash beside it. An entry has the id ``0-POSITION`` and two fields: ``d``, the data,
and ``c``, how many bytes were appended to the log before it. So the bytes that a trimmed log still keeps
are known from its first entry. The hash has ``id``, drawn when the log was made: a handle of a deleted log
does not meet its successor; ``last``, the last position; ``total``, the bytes ever appended; ``base``,
``c`` of the first entry; the bounds; for each group ``wait:NAME``, its `ack_wait` in ms, and ``look:NAME``,
when to look next for what is overdue, since looking takes time in proportion to what is pending.

Keys are the stream, the hash and the set of all names; the first argument is the log's id, the second the
channel of its bell.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

__all__ = [
    "ACK",
    "APPEND",
    "DELETE",
    "EXTEND",
    "GROUP",
    "LOOK",
    "OPEN",
    "PENDING",
    "PROGRESS",
    "READ",
    "RELEASE",
    "STAT",
    "TAKE",
    "TRIM",
    "UNGROUP",
    "Script",
]


class Script(NamedTuple):
    """A script and the name that the server knows it by."""

    text: bytes
    sha: bytes


def _script(text: str) -> Script:
    whole = text.encode()
    return Script(whole, hashlib.sha1(whole, usedforsecurity=False).hexdigest().encode())


_MINE = """
if redis.call('HGET', KEYS[2], 'id') ~= ARGV[1] then return redis.error_reply('NOLOG') end
"""
_GROUP = (
    _MINE
    + """
local group = ARGV[3]
local wait = redis.call('HGET', KEYS[2], 'wait:' .. group)
if not wait then return redis.error_reply('NOGROUP') end
"""
)
_ID = """
local function id(position) return string.format('0-%.0f', position) end
"""

# id, bell, name, max_records, max_bytes ('': as it is) -> id
OPEN = _script("""
local id = redis.call('HGET', KEYS[2], 'id')
if not id then
  id = ARGV[1]
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[2], 'id', id, 'last', 0, 'total', 0, 'base', 0)
end
redis.call('SADD', KEYS[3], ARGV[3])
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], 'max_records', ARGV[4]) end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[2], 'max_bytes', ARGV[5]) end
return id
""")

# id, bell, items... -> position of the last | {records, max_records, bytes, max_bytes}
APPEND = _script(
    _ID
    + """
local log = redis.call('HMGET', KEYS[2], 'id', 'last', 'total', 'base', 'max_records', 'max_bytes')
if log[1] ~= ARGV[1] then return redis.error_reply('NOLOG') end
local last, total, base = tonumber(log[2]), tonumber(log[3]), tonumber(log[4])
if log[5] or log[6] then
  local records, need = redis.call('XLEN', KEYS[1]), 0
  for n = 3, #ARGV do need = need + #ARGV[n] end
  if (log[5] and records + #ARGV - 2 > tonumber(log[5]))
      or (log[6] and total - base + need > tonumber(log[6])) then
    return {records, log[5], total - base, log[6]}
  end
end
for n = 3, #ARGV do
  last = last + 1
  redis.call('XADD', KEYS[1], id(last), 'd', ARGV[n], 'c', string.format('%.0f', total))
  total = total + #ARGV[n]
end
redis.call('HSET', KEYS[2], 'last', string.format('%.0f', last), 'total', string.format('%.0f', total))
redis.call('PUBLISH', ARGV[2], '')
return last
"""
)

# id, bell, after, limit, max_bytes -> {position, data, ...}
READ = _script(
    _MINE
    + _ID
    + """
local found, after, left, room = {}, tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
while left > 0 do
  -- Some at a time: what exceeds max_bytes is not even looked at.
  local count = math.min(left, 32)
  local some = redis.call('XRANGE', KEYS[1], id(after + 1), '+', 'COUNT', count)
  for _, entry in ipairs(some) do
    local data = entry[2][2]
    room = room - #data
    if room < 0 and #found > 0 then return found end
    found[#found + 1] = string.sub(entry[1], 3)
    found[#found + 1] = data
    after = tonumber(string.sub(entry[1], 3))
  end
  if #some < count then return found end
  left = left - count
end
return found
"""
)

# id, bell -> {last, whether it keeps any}
LOOK = _script(
    _MINE
    + """
return {redis.call('HGET', KEYS[2], 'last'), redis.call('XLEN', KEYS[1])}
"""
)

# id, bell -> {records, bytes, first, last, max_records, max_bytes}
STAT = _script(
    _MINE
    + """
local log = redis.call('HMGET', KEYS[2], 'last', 'total', 'base', 'max_records', 'max_bytes')
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return {redis.call('XLEN', KEYS[1]), tonumber(log[2]) - tonumber(log[3]),
        first and string.sub(first[1], 3) or '0', log[1], log[4], log[5]}
"""
)

# id, bell, through -> how many
TRIM = _script(
    _MINE
    + _ID
    + """
local through = math.min(tonumber(ARGV[3]), tonumber(redis.call('HGET', KEYS[2], 'last')))
local gone = redis.call('XTRIM', KEYS[1], 'MINID', '=', id(through + 1))
if gone == 0 then return 0 end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
redis.call('HSET', KEYS[2], 'base', first and first[2][4] or redis.call('HGET', KEYS[2], 'total'))
for _, field in ipairs(redis.call('HKEYS', KEYS[2])) do
  if string.sub(field, 1, 5) == 'wait:' then
    local group = string.sub(field, 6)
    while true do
      local taken = redis.call('XPENDING', KEYS[1], group, '-', id(through), 1000)
      for _, one in ipairs(taken) do redis.call('XACK', KEYS[1], group, one[1]) end
      if #taken < 1000 then break end
    end
  end
end
return gone
"""
)

# id, bell, name
DELETE = _script("""
if redis.call('HGET', KEYS[2], 'id') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('SREM', KEYS[3], ARGV[3])
redis.call('PUBLISH', ARGV[2], '')
return 1
""")

# id, bell, group, start, ack_wait of a new one, ack_wait ('': as it is)
GROUP = _script(
    _MINE
    + _ID
    + """
local wait = 'wait:' .. ARGV[3]
if redis.call('HEXISTS', KEYS[2], wait) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[3], id(tonumber(ARGV[4])), 'MKSTREAM')
  redis.call('HSET', KEYS[2], wait, ARGV[5], 'look:' .. ARGV[3], 0)
end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[2], wait, ARGV[6]) end
return 1
"""
)

# id, bell, group
UNGROUP = _script(
    _GROUP
    + """
redis.call('XGROUP', 'DESTROY', KEYS[1], group)
redis.call('HDEL', KEYS[2], 'wait:' .. group, 'look:' .. group)
redis.call('PUBLISH', ARGV[2], '')
return 1
"""
)

# id, bell, group, consumer, limit -> {ms until it is worth looking again, position, data, attempt, ...}
TAKE = _script(
    _GROUP
    + """
local consumer, limit, found = ARGV[4], tonumber(ARGV[5]), {-1}
local function deliver(entry, attempt)
  found[#found + 1] = string.sub(entry[1], 3)
  found[#found + 1] = entry[2][2]
  found[#found + 1] = attempt
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local look = tonumber(redis.call('HGET', KEYS[2], 'look:' .. group))
-- A clock that was set back must not keep anybody from looking.
if now >= look or look > now + 1000 then
  local due = redis.call('XPENDING', KEYS[1], group, 'IDLE', wait, '-', '+', limit)
  local attempts, claim = {}, {'XCLAIM', KEYS[1], group, consumer, wait}
  for _, one in ipairs(due) do
    attempts[one[1]] = one[4] + 1
    claim[#claim + 1] = one[1]
  end
  if #due > 0 then
    for _, entry in ipairs(redis.call(unpack(claim))) do
      if entry then deliver(entry, attempts[entry[1]]) end
    end
  end
  if #due < limit then
    look = now + math.max(10, math.min(1000, math.floor(tonumber(wait) / 8)))
    redis.call('HSET', KEYS[2], 'look:' .. group, string.format('%.0f', look))
  end
end
local left = limit - (#found - 1) / 3
if left > 0 then
  local new = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', left, 'STREAMS', KEYS[1], '>')
  if new then
    for _, entry in ipairs(new[1][2]) do deliver(entry, 1) end
  end
end
if #found == 1 and redis.call('XPENDING', KEYS[1], group)[1] > 0 then
  found[1] = math.max(1, look - now)
end
return found
"""
)

# id, bell, group, positions...
ACK = _script(
    _GROUP
    + """
for n = 4, #ARGV do redis.call('XACK', KEYS[1], group, '0-' .. ARGV[n]) end
return 1
"""
)

# id, bell, group, positions...
EXTEND = _script(
    _GROUP
    + """
for n = 4, #ARGV do
  local one = '0-' .. ARGV[n]
  local taken = redis.call('XPENDING', KEYS[1], group, one, one, 1)[1]
  if taken then redis.call('XCLAIM', KEYS[1], group, taken[2], 0, one, 'JUSTID') end
end
return 1
"""
)

# id, bell, group, positions...
RELEASE = _script(
    _GROUP
    + """
for n = 4, #ARGV do
  redis.call('XCLAIM', KEYS[1], group, 'released', 0, '0-' .. ARGV[n], 'IDLE', wait, 'JUSTID')
end
redis.call('HSET', KEYS[2], 'look:' .. group, 0)
redis.call('PUBLISH', ARGV[2], '')
return 1
"""
)

# id, bell, group -> {oldest entry that is not acknowledged or 0-0, last one delivered}
PROGRESS = _script(
    _GROUP
    + """
local oldest = redis.call('XPENDING', KEYS[1], group)[2] or '0-0'
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local fields = {}
  for n = 1, #info, 2 do fields[info[n]] = info[n + 1] end
  if fields['name'] == group then return {oldest, fields['last-delivered-id']} end
end
return redis.error_reply('NOGROUP')
"""
)

# id, bell, group -> how many
PENDING = _script(
    _GROUP
    + """
return redis.call('XPENDING', KEYS[1], group)[1]
"""
)
