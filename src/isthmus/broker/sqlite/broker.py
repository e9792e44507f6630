"""The broker, and its logs as one file's rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from isthmus.broker.handle import (
    ACK_WAIT,
    BrokerHandle,
    as_bytes,
    check_group,
    check_read,
    check_room,
)
from isthmus.broker.protocol import LogInfo, Record
from isthmus.broker.sqlite.engine import Engine, borrow, give_back, leave
from isthmus.broker.sqlite.group import SQLiteGroup
from isthmus.errors import BrokenError, MissingLogError, SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from isthmus.broker.bell import Bell
    from isthmus.broker.sqlite.transaction import LogRow, Transaction

__all__ = ["SQLiteBroker", "SQLiteBrokerSpec", "SQLiteLog"]

_AT_ONCE = 10_000  # records that one transaction deletes: others want the lock, too


class SQLiteBrokerSpec(Spec):
    """Where a `SQLiteBroker` keeps its logs."""

    path: str
    """The file; made, with its folder, if there is none. On a disk of this host: not on a network's."""
    timeout: float = 30.0
    """Seconds that another process may have the file's lock."""


class SQLiteBroker(BrokerHandle):
    """Keeps logs in one SQLite file, for all processes of one host.

    What is appended at the same time shares one transaction, and so one flush of the disk. A killed
    process leaves whole appends; so does a power cut. The file does not shrink: trimmed room is used again.
    """

    kind = "sqlite"
    spec_type = SQLiteBrokerSpec
    durability: ClassVar[str] = "every append is on the disk: it survives kills and power cuts"

    def __init__(self, path: str | os.PathLike[str], timeout: float = 30.0) -> None:
        if not os.fspath(path) or timeout <= 0:
            raise SpecError("SQLiteBroker", "it needs the path of a file and a positive timeout")
        self.path = os.path.abspath(path)
        super().__init__(SQLiteBrokerSpec(self.path, timeout))
        self._timeout = timeout
        self._engine: Engine | None = None

    async def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""
        rows = await self.engine().read(
            lambda db: db.execute("SELECT name FROM logs ORDER BY name").fetchall()
        )
        return [name for (name,) in rows]

    async def _open_log(
        self, name: str, max_records: int | None, max_bytes: int | None
    ) -> SQLiteLog:
        def work(transaction: Transaction) -> int:
            transaction.execute("INSERT OR IGNORE INTO logs (name) VALUES (?)", (name,))
            for field, bound in (("max_records", max_records), ("max_bytes", max_bytes)):
                if bound is not None:
                    transaction.execute(
                        f"UPDATE logs SET {field} = ? WHERE name = ?", (bound, name)
                    )
            found: int = transaction.execute(
                "SELECT id FROM logs WHERE name = ?", (name,)
            ).fetchone()[0]
            return found

        return SQLiteLog(self, name, await self.engine().write(work))

    def engine(self) -> Engine:
        """Return this process's engine for the file; after a fork, the child has its own."""
        self._check()
        if self._engine is None or self._engine.pid != os.getpid():
            self._engine = borrow(self.path, self._timeout)
        elif self._engine.lost:
            # No other engine: a log's number could be another log's in another file.
            raise BrokenError(*self._engine.lost.args)
        elif self._engine.broken:
            give_back(self._engine)
            self._engine = borrow(self.path, self._timeout)
        return self._engine

    async def _release(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None and engine.pid == os.getpid():
            engine.ring_all()
            await leave(engine)


class SQLiteLog:
    """A log by its number: one of the same name, made when this was deleted, is another."""

    def __init__(self, broker: SQLiteBroker, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.broker = broker

    async def append(self, items: Sequence[bytes]) -> list[int]:
        data = as_bytes(items)

        def work(transaction: Transaction) -> list[int]:
            log = self._row(transaction)
            check_room(
                f"log {self.name!r} in {self.broker.path}",
                data,
                log.records,
                log.bytes,
                log.max_records,
                log.max_bytes,
            )
            return transaction.append(log, data)

        return await self.broker.engine().write(work, sum(map(len, data)))

    async def read(
        self, after: int = 0, *, limit: int = 256, max_bytes: int = 1 << 20
    ) -> list[Record]:
        check_read(limit)

        def work(database: sqlite3.Connection) -> list[Record]:
            rows = database.execute(
                "SELECT position, data FROM records WHERE log = ? AND position > ?"
                " ORDER BY position LIMIT ?",
                (self.number, after, limit),
            )
            found: list[Record] = []
            size = 0
            for position, data in rows:
                size += len(data)
                if found and size > max_bytes:
                    break
                found.append(Record(position, data))
            rows.close()  # a statement that is not finished keeps the write-ahead log from being reset
            if not found:
                self.look(database)
            return found

        return await self.broker.engine().read(work)

    async def wait(self, after: int, timeout: float | None = None) -> bool:
        bell = self.bell()

        async def look() -> tuple[bool, float]:
            # Listening first: what is committed after that rings.
            engine = self.broker.engine()
            again = engine.listen()
            info = await engine.read(self.look)
            return info.records > 0 and info.last > after, again

        return await bell.until(look, timeout)

    async def trim(self, through: int) -> int:
        def work(transaction: Transaction) -> tuple[int, bool]:
            log = self._row(transaction)
            transaction.flush()
            rows = transaction.execute(
                "SELECT position, length(data) FROM records WHERE log = ? AND position <= ?"
                " ORDER BY position LIMIT ?",
                (self.number, through, _AT_ONCE),
            ).fetchall()
            if rows:
                end = rows[-1][0]
                transaction.execute(
                    "DELETE FROM records WHERE log = ? AND position <= ?", (self.number, end)
                )
                transaction.execute(
                    "DELETE FROM taken WHERE position <= ? AND grp IN"
                    " (SELECT id FROM groups WHERE log = ?)",
                    (end, self.number),
                )
                transaction.change(log, -len(rows), -sum(size for _, size in rows))
            return len(rows), len(rows) == _AT_ONCE

        total, more = 0, True
        while more:
            count, more = await self.broker.engine().write(work)
            total += count
        return total

    async def stat(self) -> LogInfo:
        return await self.broker.engine().read(self.look)

    async def group(
        self, name: str, *, start: int = 0, ack_wait: float | None = None
    ) -> SQLiteGroup:
        check_group(name, ack_wait)

        def work(transaction: Transaction) -> int:
            self._row(transaction)
            transaction.execute(
                "INSERT OR IGNORE INTO groups (log, name, last, ack_wait) VALUES (?, ?, ?, ?)",
                (self.number, name, start, ACK_WAIT),
            )
            if ack_wait is not None:
                transaction.execute(
                    "UPDATE groups SET ack_wait = ? WHERE log = ? AND name = ?",
                    (ack_wait, self.number, name),
                )
            found: int = transaction.execute(
                "SELECT id FROM groups WHERE log = ? AND name = ?", (self.number, name)
            ).fetchone()[0]
            return found

        return SQLiteGroup(self, name, await self.broker.engine().write(work))

    async def delete(self) -> None:
        def work(transaction: Transaction) -> None:
            mine = (self.number,)
            transaction.execute(
                "DELETE FROM taken WHERE grp IN (SELECT id FROM groups WHERE log = ?)", mine
            )
            transaction.execute("DELETE FROM groups WHERE log = ?", mine)
            transaction.execute("DELETE FROM records WHERE log = ?", mine)
            transaction.execute("DELETE FROM logs WHERE id = ?", mine)
            transaction.rung.add(self.number)

        try:
            await self.trim(1 << 62)  # in steps, so that others are not kept waiting
        except MissingLogError:
            return
        await self.broker.engine().write(work)

    def bell(self) -> Bell:
        """Return what rings for this log."""
        return self.broker.engine().bell(self.number)

    def look(self, database: sqlite3.Connection) -> LogInfo:
        """Return the log's state.

        Raises:
            MissingLogError: it was deleted.
        """
        row = database.execute(
            "SELECT records, bytes, ifnull((SELECT min(position) FROM records WHERE log = logs.id), 0),"
            " last, max_records, max_bytes FROM logs WHERE id = ?",
            (self.number,),
        ).fetchone()
        if row is None:
            raise self.missing()
        return LogInfo(*row)

    def _row(self, transaction: Transaction) -> LogRow:
        row = transaction.log(self.number)
        if row is None:
            raise self.missing()
        return row

    def missing(self, what: str = "") -> MissingLogError:
        """Return the error for this log, or for `what` of it."""
        return MissingLogError(repr(self.broker), f"{what}log {self.name!r}")
