"""A group of consumers: what each has taken are rows, so that a killed one loses nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.broker.handle import check_read
from isthmus.broker.protocol import Delivery, Progress
from isthmus.broker.sqlite.database import now

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from isthmus.broker.sqlite.broker import SQLiteLog
    from isthmus.broker.sqlite.transaction import Transaction
    from isthmus.errors import MissingLogError

__all__ = ["SQLiteGroup"]

# Whether there is a new record, and when the first of those taken is due.
_LOOK = """
SELECT EXISTS (SELECT 1 FROM records WHERE log = groups.log AND position > groups.last),
       (SELECT min(due) FROM taken WHERE grp = groups.id)
FROM groups WHERE id = ?
"""
_DUE = """
SELECT position, data, attempt + 1 FROM taken JOIN records USING (position)
WHERE grp = ? AND due <= ? AND log = ? ORDER BY position LIMIT ?
"""
_NEW = (
    "SELECT position, data, 1 FROM records WHERE log = ? AND position > ? ORDER BY position LIMIT ?"
)


class SQLiteGroup:
    """A group by its number."""

    def __init__(self, log: SQLiteLog, name: str, number: int) -> None:
        self.name = name
        self._log = log
        self._number = number

    async def read(
        self, consumer: str, *, limit: int = 64, timeout: float | None = 0
    ) -> list[Delivery]:
        check_read(limit, consumer)

        async def look() -> tuple[list[Delivery], float | None]:
            engine = self._log.broker.engine()
            again = engine.listen() if timeout != 0 else 0.0
            # Asked before taking: whoever finds nothing must not keep others from writing.
            new, due = await engine.read(self._look)
            if not new and (due is None or due > now()):
                return [], again if due is None else min(again, due - now())
            return await engine.write(lambda t: self._take(t, consumer, limit)), again

        return await self._log.bell().until(look, timeout)

    def _look(self, database: sqlite3.Connection) -> tuple[int, float | None]:
        found = database.execute(_LOOK, (self._number,)).fetchone()
        if found is None:
            raise self._missing()
        new, due = found
        return new, due

    def _take(self, transaction: Transaction, consumer: str, limit: int) -> list[Delivery]:
        last, ack_wait = self._row(transaction)
        log, time = self._log.number, now()
        again = transaction.execute(_DUE, (self._number, time, log, limit)).fetchall()
        new = transaction.execute(_NEW, (log, last, limit - len(again))).fetchall()
        transaction.execute_each(
            "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, ?)",
            [(self._number, p, consumer, time + ack_wait, n) for p, _, n in again + new],
        )
        if new:
            transaction.execute(
                "UPDATE groups SET last = ? WHERE id = ?", (new[-1][0], self._number)
            )
        return [Delivery(*row) for row in again + new]

    async def acknowledge(self, positions: Sequence[int]) -> None:
        await self._change("DELETE FROM taken WHERE grp = ? AND position = ?", positions)

    async def extend(self, positions: Sequence[int]) -> None:
        await self._change(
            f"UPDATE taken SET due = {now()!r} + (SELECT ack_wait FROM groups WHERE id = grp)"
            " WHERE grp = ? AND position = ?",
            positions,
        )

    async def release(self, positions: Sequence[int]) -> None:
        await self._change(
            "UPDATE taken SET due = 0 WHERE grp = ? AND position = ?", positions, ring=True
        )

    async def _change(
        self, statement: str, positions: Sequence[int], *, ring: bool = False
    ) -> None:
        def work(transaction: Transaction) -> None:
            self._row(transaction)
            transaction.execute_each(statement, [(self._number, p) for p in positions])
            if ring:
                transaction.rung.add(self._log.number)

        await self._log.broker.engine().write(work)

    async def pending(self) -> int:
        def work(database: sqlite3.Connection) -> int:
            self._look(database)
            count: int = database.execute(
                "SELECT count(*) FROM taken WHERE grp = ?", (self._number,)
            ).fetchone()[0]
            return count

        return await self._log.broker.engine().read(work)

    async def progress(self) -> Progress:
        def work(database: sqlite3.Connection) -> Progress:
            self._look(database)
            oldest, last = database.execute(
                "SELECT (SELECT min(position) FROM taken WHERE grp = groups.id), last"
                " FROM groups WHERE id = ?",
                (self._number,),
            ).fetchone()
            return Progress(last if oldest is None else oldest - 1, last)

        return await self._log.broker.engine().read(work)

    async def delete(self) -> None:
        def work(transaction: Transaction) -> None:
            transaction.execute("DELETE FROM taken WHERE grp = ?", (self._number,))
            transaction.execute("DELETE FROM groups WHERE id = ?", (self._number,))
            transaction.rung.add(self._log.number)

        await self._log.broker.engine().write(work)

    def _row(self, transaction: Transaction) -> tuple[int, float]:
        row = transaction.execute(
            "SELECT last, ack_wait FROM groups WHERE id = ?", (self._number,)
        ).fetchone()
        if row is None:
            raise self._missing()
        last, ack_wait = row
        return last, ack_wait

    def _missing(self) -> MissingLogError:
        return self._log.missing(f"group {self.name!r} of ")
