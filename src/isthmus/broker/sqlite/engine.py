"""One file in one process: a thread that writes, with group commit, one that reads, one that listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from isthmus.broker.bell import Bell
from isthmus.broker.sqlite.database import begin, connect, failure, foreign
from isthmus.broker.sqlite.doorbell import Listener, Ringer
from isthmus.broker.sqlite.transaction import Transaction
from isthmus.errors import BrokenError, ClosedError, IsthmusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Engine", "borrow", "give_back", "leave"]

T = TypeVar("T")

# What one commit holds at most: enough to share the disk's flush, little enough to be done soon.
_JOBS = 1000
_BYTES = 8 << 20
_WAL_BYTES = 64 << 20  # beyond that, what was written moves to the file, whoever has to wait
_LOOK = 1.0  # seconds after which who waits looks without a ring
_LOOK_OFTEN = 0.02  # where there can be no FIFO


class _Job(NamedTuple):
    work: Callable[[Any], Any]
    future: asyncio.Future[Any]
    need: int  # bytes to be stored


_Outcome: TypeAlias = "tuple[asyncio.Future[Any], Any, BaseException | None]"


class Engine:
    """The threads and connections of one file; shared by this process's brokers, see `borrow`.

    Args:
        path: of the database, absolute.
        timeout: seconds that another process may have the file's lock.
    """

    def __init__(self, path: str, timeout: float) -> None:
        self.path = path
        self.pid = os.getpid()
        self.users = 0
        self._timeout = timeout
        self._writes: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._reads: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._bells: dict[int, Bell] = {}
        self._ringer = Ringer(f"{path}-bells")
        self._listener: Listener | None = None
        self._threads: list[threading.Thread] = []
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._over: Callable[[], None] | None = None
        self._file: tuple[int, int] | None = None  # device and inode
        self.broken: IsthmusError | None = None
        """Why it could not be opened; another engine may fare better."""
        self.lost: IsthmusError | None = None
        """Why nothing of what was here is there any more."""

    async def write(self, work: Callable[[Transaction], T], need: int = 0) -> T:
        """Run `work` in a transaction, with others'; returns when it is on the disk.

        Args:
            work: raises an `IsthmusError` before it has changed anything, or not at all.
            need: bytes that it stores.
        """
        return await self._ask(self._writes, work, need)  # type: ignore[no-any-return]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` with a connection that reads."""
        return await self._ask(self._reads, work, 0)  # type: ignore[no-any-return]

    async def _ask(
        self, jobs: queue.SimpleQueue[_Job | None], work: Callable[[Any], Any], need: int
    ) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._stopped:
                raise ClosedError(self.path)
            jobs.put(_Job(work, future, need))
        return await future

    def bell(self, log: int) -> Bell:
        """Return what rings for a log, in this process."""
        return self._bells.setdefault(log, Bell())

    def ring_all(self) -> None:
        """Wake all who wait in this process: one of them was closed."""
        for bell in list(self._bells.values()):
            bell.ring()

    def listen(self) -> float:
        """Hear other processes from now on; return after how many seconds to look nevertheless."""
        with self._lock:
            if self._listener is None and not self._stopped:
                try:
                    self._listener = Listener(f"{self.path}-bells")
                except OSError:
                    return _LOOK_OFTEN
                self._start(self._hear, self._listener)
        return _LOOK

    def start(self) -> None:
        """Start the threads; they open the file."""
        self._start(self._write_on)

    def stop(self, over: Callable[[], None] | None = None) -> None:
        """Have the threads do what was asked and end, and everything closed; `over` is called then."""
        with self._lock:
            self._stopped = True
            self._over = over
            self._writes.put(None)

    def forked(self) -> None:
        """Leave the parent's FIFOs to the parent; its connections must not even be closed here."""
        self._ringer.close()
        if self._listener is not None:
            self._listener.forget()

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        name = f"isthmus-sqlite-{target.__name__.strip('_')}"
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    # The thread that writes

    def _write_on(self) -> None:
        try:
            self._writer = connect(self.path, self._timeout, create=True)
            self._reader = connect(self.path, self._timeout, create=False)
            # `begin` waits itself; a checkpoint that would have to wait is made another time.
            self._writer.execute("PRAGMA busy_timeout=0")
            self._file = _identity(self.path)
        except Exception as error:  # whatever it is: nobody else would tell those who ask
            self.broken = error if isinstance(error, IsthmusError) else failure(self.path, error)
        self._start(self._read_on)
        checked = 0.0
        going = True
        while going:
            jobs, going = _together(self._writes)
            if jobs:
                _settle(self._commit(jobs))
            if jobs and self._writer and time.monotonic() - checked > 0.1:
                checked = time.monotonic()
                self._checkpoint(self._writer)
        self._reads.put(None)
        self._close()

    def _close(self) -> None:
        # On this thread, the first and the last: at exit no executor's is there any more.
        if self._listener is not None:
            self._listener.stop()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        if self._listener is not None:
            self._listener.close()
        self._ringer.close()
        for database in (self._reader, self._writer):
            if database is not None:
                database.close()
        if self._over is not None:
            self._over()

    def _unusable(self) -> IsthmusError | None:
        """Return why this file is of no use: it is not open, or no longer the one at its path."""
        if self.broken is None and self.lost is None and _identity(self.path) != self._file:
            # SQLite would go on with a file that nobody else can ever open, and call it durable.
            self.lost = BrokenError(
                self.path, "it was deleted or replaced while it was open; make a new broker"
            )
        return self.lost or self.broken

    def _commit(self, jobs: list[_Job]) -> list[_Outcome]:
        unusable = self._unusable()
        if self._writer is None or unusable is not None:
            return [(job.future, None, unusable) for job in jobs]
        try:
            begin(self._writer, self._timeout)
        except sqlite3.Error as error:  # all of them: each on its own would wait as long again
            return [(job.future, None, failure(self.path, error, job.need)) for job in jobs]
        transaction = Transaction(self._writer)
        done: list[_Outcome] = []
        try:
            for job in jobs:
                try:
                    done.append((job.future, job.work(transaction), None))
                except IsthmusError as error:
                    done.append((job.future, None, error))
            transaction.flush()
            self._writer.execute("COMMIT")
        except Exception as error:
            if self._writer.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
            if len(jobs) > 1:
                # One of them may be too large, or wrong: each on its own.
                return [outcome for job in jobs for outcome in self._commit([job])]
            told = failure(self.path, error, jobs[0].need) if foreign(error) else error
            return [(jobs[0].future, None, told)]
        if transaction.rung:
            for log in transaction.rung:
                if bell := self._bells.get(log):
                    bell.ring()
            with contextlib.suppress(OSError):  # no descriptors left, say: they look by themselves
                own = self._listener.name if self._listener is not None else None
                self._ringer.ring(transaction.rung, own)
        return done

    def _checkpoint(self, database: sqlite3.Connection) -> None:
        """Keep the write-ahead log from growing while there is always somebody who reads it."""
        with contextlib.suppress(OSError, sqlite3.Error):
            if os.path.getsize(f"{self.path}-wal") > _WAL_BYTES:
                database.execute("PRAGMA busy_timeout=1000")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with contextlib.suppress(sqlite3.Error):
            database.execute("PRAGMA busy_timeout=0")

    # The others

    def _read_on(self) -> None:
        while job := self._reads.get():
            outcome: _Outcome
            unusable = self._unusable()
            if self._reader is None or unusable is not None:
                outcome = (job.future, None, unusable)
            else:
                try:
                    outcome = (job.future, job.work(self._reader), None)
                except Exception as error:
                    told = failure(self.path, error) if foreign(error) else error
                    outcome = (job.future, None, told)
            _settle([outcome])

    def _hear(self, listener: Listener) -> None:
        for logs in listener.rings():
            for log in logs:
                if bell := self._bells.get(log):
                    bell.ring()


def _together(jobs: queue.SimpleQueue[_Job | None]) -> tuple[list[_Job], bool]:
    """Wait for one job and return all that are there, and whether more may come."""
    job = jobs.get()
    taken: list[_Job] = []
    size = 0
    while job is not None:
        taken.append(job)
        size += job.need
        if len(taken) == _JOBS or size >= _BYTES:
            return taken, True
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return taken, True
    return taken, False


def _settle(outcomes: Iterable[_Outcome]) -> None:
    """Give the results to those who wait: one call into each event loop, for it costs a system call."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].get_loop(), []).append(outcome)
    for loop, some in by_loop.items():
        with contextlib.suppress(RuntimeError):  # closed: nobody waits
            loop.call_soon_threadsafe(_set, some)


def _set(outcomes: list[_Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue  # cancelled
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


_engines: dict[str, Engine] = {}
_lock = threading.Lock()
_abandoned: list[Engine] = []


def borrow(path: str, timeout: float) -> Engine:
    """Return this process's engine for a file; `give_back` must follow."""
    with _lock:
        engine = _engines.get(path)
        if engine is None or engine.broken is not None or engine.lost is not None:
            engine = _engines[path] = Engine(path, timeout)
            engine.start()
        engine.users += 1
        return engine


def give_back(engine: Engine, over: Callable[[], None] | None = None) -> bool:
    """End a use; the last one stops the threads, which then call `over`. Return whether it was the last."""
    with _lock:
        engine.users -= 1
        last = engine.users == 0
        if last and _engines.get(engine.path) is engine:
            del _engines[engine.path]
    if last:
        engine.stop(over)
    return last


async def leave(engine: Engine) -> None:
    """End a use; wait until all is closed, if it is the last."""
    loop = asyncio.get_running_loop()
    closed = loop.create_future()

    def over() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(closed.cancel)

    if give_back(engine, over):
        await asyncio.wait([closed])


def _forked() -> None:
    global _lock
    _lock = threading.Lock()
    for engine in _engines.values():
        engine.forked()
    _abandoned.extend(_engines.values())
    _engines.clear()


os.register_at_fork(after_in_child=_forked)
