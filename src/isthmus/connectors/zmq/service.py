"""What a server does when it is asked: its objects, whom it keeps waiting, and what it answers."""

from __future__ import annotations

import contextlib
import math
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from isthmus.connectors.unfinished import remove, try_lock
from isthmus.connectors.zmq.access import MOST_CHUNK_BYTES
from isthmus.connectors.zmq.messages import (
    Answer,
    Begin,
    Clear,
    Entries,
    EntryInfo,
    Evict,
    Exists,
    Finish,
    Found,
    Full,
    Get,
    Lease,
    ListEntries,
    Missing,
    Part,
    Put,
    Range,
    Refused,
    Renew,
    Renewed,
    Reply,
    Request,
    Stat,
    Sweep,
    Wait,
)
from isthmus.connectors.zmq.vault import Draft, Entry, FullVaultError, Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Asker", "Response", "Service"]

_PAGE = 500
_WRITER = re.compile(r"(writer-[0-9a-f]+-[0-9a-f]+)?")
_LONGEST_WAIT = 60.0
_LONGEST_PAUSE = 3600.0  # ZeroMQ polls for at most 2³¹ ms, and a lease may last for years


class Asker(NamedTuple):
    """Who asked: a socket, and the way back over it."""

    socket: Any
    route: bytes


class Response(NamedTuple):
    """A reply and its frames."""

    reply: Reply
    frames: Sequence[Any] = ()


Send: TypeAlias = "Callable[[Asker, Response], None]"


class _Waiter(NamedTuple):
    asker: Asker
    until: float


class Service:
    """Answers requests. Frames are opaque to it: they have a length, and a ``buffer`` or are bytes.

    Args:
        folder: where writers have files locked.
        max_bytes: of all objects; None for half of the memory that is free.
        send: called for replies that had to wait.
    """

    def __init__(self, folder: str, max_bytes: int | None, send: Send) -> None:
        self._folder = folder
        self._vault: Vault[Any] = Vault(_half_of_memory() if max_bytes is None else max_bytes)
        self._send = send
        self._waiters: dict[str, list[_Waiter]] = {}
        self._patience = math.inf  # when the first of them is to be told that nothing came

    def answer(
        self, request: Request, frames: Sequence[Any], asker: Asker, now: float
    ) -> Response | None:
        """Return what to answer; None where there is nothing, or not yet.

        Args:
            request: but for `Hello`, which is the server's.
            frames: that came with it.
            asker: who asked.
            now: seconds on a clock that nobody sets.
        """
        try:
            return self._answer(request, frames, asker, now)
        except Exception as error:
            # What goes wrong with one request, by a mistake of ours, must not cost a node its memory.
            print(f"{type(request).__name__}: {type(error).__name__}: {error}", file=sys.stderr)
            if isinstance(request, Part):
                return None  # nobody waits for an answer; what it is a part of will lack it
            return Response(Refused(f"the server failed with {type(error).__name__}: {error}"))

    def _answer(
        self, request: Request, frames: Sequence[Any], asker: Asker, now: float
    ) -> Response | None:
        vault = self._vault
        match request:
            case Get():
                return self._get(request)
            case Put():
                if sum(map(len, frames)) != request.size:
                    return Response(Refused("not as many bytes as were announced"))
                return Response(self._put(request, frames, now))
            case Part():
                vault.add(request.draft, frames, now)
                return None
            case Begin():
                return Response(self._begin(request, now))
            case Finish():
                return Response(self._finish(request, now))
            case Range():
                return self._range(request)
            case Exists():
                return Response(Answer(int(vault.find(request.name) is not None)))
            case Evict():
                return Response(Answer(int(vault.evict(request.name))))
            case Stat():
                entry = vault.find(request.name)
                found = [] if entry is None else [_info(request.name, entry, now)]
                return Response(Entries(found))
            case Wait():
                return self._wait(request, asker, now)
            case ListEntries():
                page = vault.entries(request.after, _PAGE)
                infos = [_info(name, entry, now) for name, entry in page]
                return Response(Entries(infos, len(page) == _PAGE))
            case Clear():
                return Response(Answer(vault.clear()))
            case Sweep():
                return Response(Answer(vault.expire(now) + vault.sweep(self._alive, now)))
            case Lease():
                return Response(Answer(int(vault.lease(request.name, request.seconds, now))))
            case Renew():
                return Response(Renewed([vault.renew(name, now) for name in request.names]))
        return None

    def _put(self, request: Put, frames: Sequence[Any], now: float) -> Reply:
        def store() -> bool:
            return self._vault.put(
                request.name,
                frames,
                absent=request.absent,
                lease=request.lease,
                created=time.time(),
                now=now,
            )

        return self._with_room(store, request.name, now)

    def _begin(self, request: Begin, now: float) -> Reply:
        if not _WRITER.fullmatch(request.writer):
            return Refused(f"{request.writer!r} is no writer's file")
        draft: Draft[Any] = Draft(
            request.name, request.size, request.writer, request.absent, request.lease
        )
        return self._with_room(lambda: self._vault.begin(draft, now), None, now)

    def _finish(self, request: Finish, now: float) -> Reply:
        name = self._vault.name_of(request.draft)
        stored = self._vault.finish(request.draft, created=time.time(), now=now)
        if stored is None:
            return Refused(
                "it was given up: chunks are missing, or nothing came of it for too long"
            )
        if stored and name is not None:
            self._wake(name)
        return Answer(int(stored))

    def _with_room(self, store: Any, name: str | None, now: float) -> Reply:
        """Store, after making room if there is none."""
        vault = self._vault
        while True:
            try:
                stored = store()
                break
            except FullVaultError:
                used = vault.used
                vault.expire(now)
                vault.sweep(self._alive, now)
                if vault.used == used:
                    return Full(used, vault.limit)
        if stored and name is not None:
            self._wake(name)
        return Answer(int(stored))

    def _get(self, request: Get) -> Response:
        entry = self._vault.find(request.name)
        if entry is None or request.serial not in (0, entry.serial):
            return Response(Missing())
        if request.number >= max(1, len(entry.chunks)):
            return Response(
                Refused(f"an object of {len(entry.chunks)} chunks has no {request.number}")
            )
        found = Found(entry.size, len(entry.chunks), entry.serial)
        return Response(found, entry.chunks[request.number] if entry.chunks else ())

    def _range(self, request: Range) -> Response:
        entry = self._vault.find(request.name)
        if entry is None or request.serial not in (0, entry.serial):
            return Response(Missing())
        if request.size > MOST_CHUNK_BYTES:
            return Response(Refused("a range is at most one chunk"))
        data = b"".join(_cut(entry, request.offset, request.size))
        return Response(Found(entry.size, len(entry.chunks), entry.serial), [data])

    def _wait(self, request: Wait, asker: Asker, now: float) -> Response | None:
        if self._vault.find(request.name) is not None:
            return Response(Answer(1))
        if not 0 < request.seconds < _LONGEST_WAIT:
            return Response(Answer(0))
        waiter = _Waiter(asker, now + request.seconds)
        self._waiters.setdefault(request.name, []).append(waiter)
        self._patience = min(self._patience, waiter.until)
        return None

    def _wake(self, name: str) -> None:
        for waiter in self._waiters.pop(name, ()):
            self._send(waiter.asker, Response(Answer(1)))

    def pause(self, now: float) -> float | None:
        """Return milliseconds until there is something to do without being asked."""
        due = min(self._patience, self._vault.next_due())
        if due == math.inf:
            return None
        return min(max(0.0, due - now), _LONGEST_PAUSE) * 1e3 + 1

    def tidy(self, now: float) -> None:
        """Tell those who waited long enough; delete what is overdue."""
        self._vault.expire(now)
        if now < self._patience:
            return
        waiting, self._waiters, self._patience = self._waiters, {}, math.inf
        for name, waiters in waiting.items():
            for waiter in waiters:
                if waiter.until <= now:
                    self._send(waiter.asker, Response(Answer(0)))
                else:
                    self._waiters.setdefault(name, []).append(waiter)
                    self._patience = min(self._patience, waiter.until)

    def _alive(self, writer: str) -> bool:
        """Return whether the process that has a file of the folder locked still runs."""
        path = os.path.join(self._folder, writer)
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            if try_lock(fd):
                remove(path)
                return False
            return True
        finally:
            os.close(fd)


def _info(name: str, entry: Entry[Any], now: float) -> EntryInfo:
    left = None if entry.lease is None else entry.until - now
    return EntryInfo(name, entry.size, entry.created, entry.serial, left)


def _cut(entry: Entry[Any], offset: int, size: int) -> Iterator[memoryview]:
    stop, start = offset + size, 0
    for frame in entry.frames():
        end = start + len(frame)
        if start >= stop:
            return
        if end > offset:
            view = frame if isinstance(frame, bytes) else frame.buffer
            yield memoryview(view)[max(0, offset - start) : stop - start]
        start = end


def _half_of_memory() -> int:
    """Return half of what this node, or this job's control group, has left."""
    with open("/proc/meminfo") as file:
        facts = dict(line.split(":", 1) for line in file)
    free = int(facts["MemAvailable"].split()[0]) << 10
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        with contextlib.suppress(OSError, ValueError), open(limit) as most, open(used) as now:
            free = min(free, max(0, int(most.read()) - int(now.read())))
    return free // 2
