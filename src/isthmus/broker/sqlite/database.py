"""The file: its schema, how a connection to it is set up, and what can go wrong, in our errors."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

from isthmus.errors import BrokenError, FullError, IsthmusError

__all__ = ["begin", "connect", "failure", "foreign", "now"]

_APPLICATION = 0x69736C67  # "islg", in the file's header: another program's database is not ours
_VERSION = 1
_WAL_BYTES = 64 << 20  # what is left of the write-ahead log after a checkpoint

# `last` outlives the records, so that no position is ever used twice.
_SCHEMA = """
CREATE TABLE boot (id TEXT NOT NULL);
CREATE TABLE logs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    last INTEGER NOT NULL DEFAULT 0,
    records INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    max_records INTEGER,
    max_bytes INTEGER
);
CREATE TABLE records (
    log INTEGER NOT NULL,
    position INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (log, position)
) WITHOUT ROWID;
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    log INTEGER NOT NULL,
    name TEXT NOT NULL,
    last INTEGER NOT NULL,
    ack_wait REAL NOT NULL,
    UNIQUE (log, name)
);
CREATE TABLE taken (
    grp INTEGER NOT NULL,
    position INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    due REAL NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (grp, position)
) WITHOUT ROWID;
CREATE INDEX taken_due ON taken (grp, due);
"""


def connect(path: str, timeout: float, *, create: bool) -> sqlite3.Connection:
    """Open the file for one thread.

    Args:
        path: of the database.
        timeout: seconds to wait for other processes.
        create: make the schema in a new file.

    Raises:
        BrokenError: it is not a file of ours, or of another version.
        FullError: there is no room for it.
    """
    database = None
    try:
        if create:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        database = sqlite3.connect(
            path, timeout=timeout, isolation_level=None, check_same_thread=False
        )
        if create:
            _prepare(path, database, timeout)
        # FULL: the write-ahead log is on the disk before a commit returns.
        for pragma in ("synchronous=FULL", f"journal_size_limit={_WAL_BYTES}"):
            database.execute(f"PRAGMA {pragma}")
    except BaseException as error:
        if database is not None:
            database.close()
        if foreign(error):
            raise failure(path, error) from error
        raise
    return database


def _prepare(path: str, database: sqlite3.Connection, timeout: float) -> None:
    if not _recognised(path, database):
        # Where two do this at the same time, one is refused without SQLite's having waited.
        _patiently(database, "PRAGMA journal_mode=WAL", timeout)
        begin(database, timeout)
        try:
            if not _recognised(path, database):  # nobody was faster
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA application_id={_APPLICATION}")
                database.execute(f"PRAGMA user_version={_VERSION}")
            database.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise
    begin(database, timeout)
    boot = _boot()
    if database.execute("SELECT id FROM boot").fetchall() != [(boot,)]:
        # `due` is counted from the boot: what was taken before this one is overdue.
        database.execute("DELETE FROM boot")
        database.execute("INSERT INTO boot VALUES (?)", (boot,))
        database.execute("UPDATE taken SET due = 0")
    database.execute("COMMIT")


def _recognised(path: str, database: sqlite3.Connection) -> bool:
    # In one transaction: between two of them another process may make the schema.
    alone = not database.in_transaction
    if alone:
        database.execute("BEGIN")
    try:
        application, version, schema = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "user_version", "schema_version")
        )
    finally:
        if alone:
            database.execute("ROLLBACK")
    if application == _APPLICATION:
        if version != _VERSION:
            raise BrokenError(
                path,
                f"it has version {version} of the log format, and this isthmus knows version {_VERSION}; "
                "install the isthmus that made it, or name another file",
            )
        return True
    if schema or application:
        raise BrokenError(path, "it is another program's database; name another file")
    return False


def begin(database: sqlite3.Connection, timeout: float) -> None:
    """Begin a transaction that writes, when those of other processes are over.

    Raises:
        sqlite3.OperationalError: another process had it all the time.
    """
    # SQLite's own handler soon sleeps for 25 to 100 ms, hundreds of transactions of the others.
    _patiently(database, "BEGIN IMMEDIATE", timeout)


def _patiently(database: sqlite3.Connection, statement: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = 0.0001
    while True:
        try:
            database.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 0.002)


def foreign(error: BaseException) -> bool:
    """Whether it is what SQLite or the system said, not yet in our words."""
    return isinstance(error, sqlite3.Error | OSError) and not isinstance(error, IsthmusError)


def failure(path: str, error: BaseException, need: int = 0) -> IsthmusError:
    """Return our error for what SQLite, or the system, said.

    Args:
        path: of the database.
        error: what it said.
        need: bytes that were to be stored.
    """
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return FullError(path, need, "free space on its disk, or trim logs")
    if code == sqlite3.SQLITE_TOOBIG:
        return FullError(path, need, "a record has at most 1,000,000,000 bytes")
    hint = "see that its folder exists and can be written to"
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        hint = "it is damaged, or no SQLite file at all; restore it, or name another file"
    elif code == sqlite3.SQLITE_BUSY:
        hint = "another process holds its lock; see what that does, then call again"
    return BrokenError(path, f"{error}; {hint}")


def _code(error: BaseException) -> int:
    # Extended codes have the plain one in their low byte.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""  # not Linux: `now` is the time of day


def now() -> float:
    """Return seconds on a clock that all processes of this host share and nobody sets."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time()
