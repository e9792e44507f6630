"""Logs in the memory of this process: for tests, and between the threads of a program.

Any thread and any event loop may use them. A forked child has none of its parent's: a log opened before the
fork raises `ElsewhereError` there, since what one of the two appended the other could never see.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, ClassVar

from isthmus.broker.bell import Bell
from isthmus.broker.handle import (
    ACK_WAIT,
    BrokerHandle,
    as_bytes,
    check_group,
    check_read,
    check_room,
    within,
)
from isthmus.broker.protocol import Delivery, LogInfo, Progress, Record
from isthmus.errors import ElsewhereError, MissingLogError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MemoryBroker", "MemoryBrokerSpec"]


class MemoryBrokerSpec(Spec):
    """Where a `MemoryBroker` keeps its logs."""

    name: str = "default"
    """Brokers of one process with the same name share their logs."""


class _Taken:
    """A record that a consumer has."""

    __slots__ = ("attempt", "due")

    def __init__(self, due: float, attempt: int) -> None:
        self.due = due
        self.attempt = attempt


class _GroupState:
    def __init__(self, start: int) -> None:
        self.last = start  # position of the last record that was delivered
        self.ack_wait = ACK_WAIT
        self.taken: dict[int, _Taken] = {}
        self.gone = False

    def due(self) -> float:
        return min((t.due for t in self.taken.values()), default=float("inf"))


class _LogState:
    """Positions are consecutive: `records` has those from `first` to `last`."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.first = 1
        self.last = 0
        self.size = 0
        self.max_records: int | None = None
        self.max_bytes: int | None = None
        self.groups: dict[str, _GroupState] = {}
        self.gone = False
        self.bell = Bell()


class _Space:
    """The logs of one name."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held for microseconds, never across an await
        self.logs: dict[str, _LogState] = {}
        self.pid = os.getpid()


_spaces: dict[str, _Space] = {}


def _forked() -> None:
    _spaces.clear()


os.register_at_fork(after_in_child=_forked)


class MemoryBroker(BrokerHandle):
    """Keeps logs in this process, for as long as it lives."""

    kind = "memory"
    spec_type = MemoryBrokerSpec
    durability: ClassVar[str] = "none: the logs end with their process"

    def __init__(self, name: str = "default") -> None:
        super().__init__(MemoryBrokerSpec(name))
        self._space = _spaces.setdefault(name, _Space())
        self._bells: set[Bell] = set()

    async def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""
        self._check()
        return sorted(self._space.logs)

    async def _open_log(self, name: str, max_records: int | None, max_bytes: int | None) -> _Log:
        with self._space.lock:
            state = self._space.logs.setdefault(name, _LogState())
            state.max_records = max_records or state.max_records
            state.max_bytes = max_bytes or state.max_bytes
        self._bells.add(state.bell)
        return _Log(self, name, state)

    async def _release(self) -> None:
        for bell in self._bells:
            bell.ring()

    def _check(self) -> None:
        super()._check()
        if self._space.pid != os.getpid():
            host = socket.gethostname()
            raise ElsewhereError(
                repr(self),
                f"process {self._space.pid} on {host}",
                f"its forked child {os.getpid()}",
                "processes share logs through the sqlite broker",
            )


class _Log:
    def __init__(self, broker: MemoryBroker, name: str, state: _LogState) -> None:
        self.name = name
        self._broker = broker
        self._lock = broker._space.lock
        self._state = state

    def _now(self) -> _LogState:
        self._broker._check()
        if self._state.gone:
            raise MissingLogError(repr(self._broker), f"log {self.name!r}")
        return self._state

    async def append(self, items: Sequence[bytes]) -> list[int]:
        log, data = self._now(), as_bytes(items)
        with self._lock:
            check_room(
                f"log {self.name!r} of {self._broker!r}",
                data,
                len(log.records),
                log.size,
                log.max_records,
                log.max_bytes,
            )
            positions = list(range(log.last + 1, log.last + 1 + len(data)))
            log.records.update(zip(positions, data, strict=True))
            log.last += len(data)
            log.size += sum(map(len, data))
        log.bell.ring()
        return positions

    async def read(
        self, after: int = 0, *, limit: int = 256, max_bytes: int = 1 << 20
    ) -> list[Record]:
        check_read(limit)
        log = self._now()
        with self._lock:
            begin = max(after + 1, log.first)
            found = [
                Record(n, log.records[n]) for n in range(begin, min(begin + limit, log.last + 1))
            ]
        return found[: within((len(r.data) for r in found), max_bytes)]

    async def wait(self, after: int, timeout: float | None = None) -> bool:
        async def look() -> tuple[bool, None]:
            log = self._now()
            return bool(log.records) and log.last > after, None

        return await self._state.bell.until(look, timeout)

    async def trim(self, through: int) -> int:
        log = self._now()
        with self._lock:
            gone = range(log.first, min(through, log.last) + 1)
            for n in gone:
                log.size -= len(log.records.pop(n))
                for group in log.groups.values():
                    group.taken.pop(n, None)
            log.first += len(gone)
        return len(gone)

    async def stat(self) -> LogInfo:
        log = self._now()
        with self._lock:
            return LogInfo(
                len(log.records),
                log.size,
                log.first if log.records else 0,
                log.last,
                log.max_records,
                log.max_bytes,
            )

    async def group(self, name: str, *, start: int = 0, ack_wait: float | None = None) -> _Group:
        check_group(name, ack_wait)
        log = self._now()
        with self._lock:
            group = log.groups.setdefault(name, _GroupState(start))
            group.ack_wait = ack_wait or group.ack_wait
        return _Group(self, name, group)

    async def delete(self) -> None:
        self._broker._check()
        state = self._state
        with self._lock:
            state.gone = True
            if self._broker._space.logs.get(self.name) is state:
                del self._broker._space.logs[self.name]
        state.bell.ring()


class _Group:
    def __init__(self, log: _Log, name: str, state: _GroupState) -> None:
        self.name = name
        self._log = log
        self._lock = log._lock
        self._state = state

    def _now(self) -> tuple[_LogState, _GroupState]:
        log = self._log._now()
        if self._state.gone:
            raise MissingLogError(
                repr(self._log._broker), f"group {self.name!r} of log {self._log.name!r}"
            )
        return log, self._state

    async def read(
        self, consumer: str, *, limit: int = 64, timeout: float | None = 0
    ) -> list[Delivery]:
        check_read(limit, consumer)

        async def look() -> tuple[list[Delivery], float | None]:
            log, group = self._now()
            with self._lock:
                found = _take(log, group, limit)
                return found, group.due() - time.monotonic() if group.taken else None

        return await self._log._state.bell.until(look, timeout)

    async def acknowledge(self, positions: Sequence[int]) -> None:
        _, group = self._now()
        with self._lock:
            for n in positions:
                group.taken.pop(n, None)

    async def extend(self, positions: Sequence[int]) -> None:
        _, group = self._now()
        self._set_due(positions, time.monotonic() + group.ack_wait)

    async def release(self, positions: Sequence[int]) -> None:
        log, _ = self._now()
        self._set_due(positions, 0.0)
        log.bell.ring()

    def _set_due(self, positions: Sequence[int], due: float) -> None:
        with self._lock:
            for n in positions:
                if taken := self._state.taken.get(n):
                    taken.due = due

    async def pending(self) -> int:
        return len(self._now()[1].taken)

    async def progress(self) -> Progress:
        _, group = self._now()
        with self._lock:
            done = min(group.taken) - 1 if group.taken else group.last
            return Progress(done, group.last)

    async def delete(self) -> None:
        self._log._broker._check()
        log = self._log._state
        with self._lock:
            self._state.gone = True
            if log.groups.get(self.name) is self._state:
                del log.groups[self.name]
        log.bell.ring()


def _take(log: _LogState, group: _GroupState, limit: int) -> list[Delivery]:
    now = time.monotonic()
    found = []
    for n in sorted(n for n, taken in group.taken.items() if taken.due <= now)[:limit]:
        again = group.taken[n]
        again.due = now + group.ack_wait
        again.attempt += 1
        found.append(Delivery(n, log.records[n], again.attempt))
    begin = max(group.last + 1, log.first)
    for n in range(begin, min(begin + limit - len(found), log.last + 1)):
        group.taken[n] = _Taken(now + group.ack_wait, 1)
        group.last = n
        found.append(Delivery(n, log.records[n], 1))
    return found
