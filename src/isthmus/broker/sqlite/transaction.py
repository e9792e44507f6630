"""What the jobs of one commit share: logs looked up once, records written together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence

__all__ = ["LogRow", "Transaction"]


class LogRow:
    """A log's row, as it will be."""

    __slots__ = ("bytes", "id", "last", "max_bytes", "max_records", "records")

    def __init__(self, id: int, row: tuple[int, int, int, int | None, int | None]) -> None:
        self.id = id
        self.last, self.records, self.bytes, self.max_records, self.max_bytes = row


class Transaction:
    """A transaction that is open; `flush` must come before its commit.

    Appends are gathered: a statement for each record, and none for each call, halves their time.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._logs: dict[int, LogRow | None] = {}
        self._changed: dict[int, LogRow] = {}
        self._records: list[tuple[int, int, bytes]] = []
        self.rung: set[int] = set()
        """Logs of which others are to be told."""

    def log(self, number: int) -> LogRow | None:
        """Return a log's row, or None if there is none."""
        if number in self._changed:
            return self._changed[number]
        if number not in self._logs:
            row = self._database.execute(
                "SELECT last, records, bytes, max_records, max_bytes FROM logs WHERE id = ?",
                (number,),
            ).fetchone()
            self._logs[number] = LogRow(number, row) if row else None
        return self._logs[number]

    def append(self, log: LogRow, items: Sequence[bytes]) -> list[int]:
        """Append records to a log that has room for them, and return their positions."""
        positions = list(range(log.last + 1, log.last + 1 + len(items)))
        self._records += zip([log.id] * len(items), positions, items, strict=True)
        log.last += len(items)
        self.change(log, len(items), sum(map(len, items)))
        return positions

    def change(self, log: LogRow, records: int, size: int) -> None:
        """Count records, and bytes, that came or (negative) went; others are told."""
        log.records += records
        log.bytes += size
        self._changed[log.id] = log
        self.rung.add(log.id)

    def execute(self, statement: str, arguments: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement, after what was gathered."""
        self.flush()
        # A log may be made, deleted or given other bounds by it.
        self._logs.clear()
        return self._database.execute(statement, arguments)

    def execute_each(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of arguments, after what was gathered."""
        self.flush()
        self._database.executemany(statement, rows)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._records:
            self._database.executemany("INSERT INTO records VALUES (?, ?, ?)", self._records)
            self._records.clear()
        if self._changed:
            self._database.executemany(
                "UPDATE logs SET last = ?, records = ?, bytes = ? WHERE id = ?",
                [(log.last, log.records, log.bytes, log.id) for log in self._changed.values()],
            )
            self._changed.clear()
