"""The leases of a storage in a folder: a small file for each leased object, in a folder of their own.

So a sweep costs what there is of leases, whatever else lies there. Who writes a lease file, and who
deletes an object for it, holds an exclusive `flock` on it meanwhile. A lease is written before its
object appears, under that lock: a producer that is killed at any moment leaves either no object or one
with a lease, and nobody takes the lease for a leftover in between.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from typing import TYPE_CHECKING, NamedTuple, Protocol

from isthmus.connectors.leases.grant import Grant
from isthmus.connectors.leases.holders import Holders
from isthmus.connectors.leases.record import RECORD_BYTES, UNREADABLE, Observations, Record
from isthmus.connectors.leases.terms import clock_id as own_clock_id
from isthmus.connectors.leases.terms import now
from isthmus.connectors.naming import fresh_name, is_unfinished
from isthmus.connectors.polling import poll
from isthmus.connectors.unfinished import Unfinished, full, remove, try_lock
from isthmus.errors import BrokenError, FullError

if TYPE_CHECKING:
    from collections.abc import Callable

    from isthmus.connectors.leases.terms import Terms

__all__ = ["LEASES", "LeaseFolder", "Storage", "Swept", "stale"]

LEASES = ".leases"
"""Name of the folder."""

_PATIENCE_SECONDS = 2.0  # a lock is held for microseconds, unless its holder is suspended just then
_FORGOTTEN_SECONDS = 86_400.0  # what a host that has not come for a day has noted is of no more use
_HINT = "free some space, or evict objects"


class Storage(Protocol):
    """What has the objects."""

    def identity(self, name: str) -> int | None:
        """Return a number that another object under this name would not have; None if there is none."""
        ...

    def delete(self, name: str) -> int:
        """Delete an object; return the bytes freed."""
        ...


class Swept(NamedTuple):
    """What a sweep did."""

    freed: int
    """Bytes."""
    due: float | None
    """When the next lease runs out, on the clock of `now`; None if there are no leases."""


def stale(folder: str, seconds: float) -> bool:
    """Return whether a storage may have leases, and no process of this host swept them for so long."""
    leases = os.path.join(folder, LEASES)
    try:
        age = time.time() - os.stat(_notes(leases, own_clock_id())).st_mtime
    except OSError:
        return os.path.isdir(leases)
    return not 0 <= age < seconds  # a clock that was set, or the file server's, only sweeps more


def _notes(leases: str, clock: str) -> str:
    return f"{leases}/.{clock}.seen"


class LeaseFolder:
    """The folder ``.leases`` of a storage; made with the first lease.

    Args:
        folder: the storage's.
        storage: has the objects.
        clock: tells the time, in seconds.
        clock_id: the same in every process whose clock agrees.
    """

    def __init__(
        self,
        folder: str,
        storage: Storage,
        *,
        clock: Callable[[], float] = now,
        clock_id: str | None = None,
    ) -> None:
        self._storage_folder = folder
        self._folder = os.path.join(folder, LEASES)
        self._storage = weakref.proxy(storage)
        self._now = clock
        self._clock = own_clock_id() if clock_id is None else clock_id
        self._notes = _notes(self._folder, self._clock)
        self._holders = Holders(self._folder, self._clock)

    # -- for who stores, leases and evicts ------------------------------------------------------

    def publish(
        self, name: str, terms: Terms | None, file: Unfinished, publish: Callable[[], bool]
    ) -> bool:
        """Have a filled file appear as an object, with a lease if there are terms.

        Args:
            name: the object's.
            terms: of the lease.
            file: discarded if the lease cannot be written.
            publish: has it appear; False if there is an object of that name already.
        """
        if terms is None:
            return publish()
        try:
            file.keep()
            identity = os.fstat(file.fd).st_ino
            grant = self.grant(name, identity, terms)
        except BaseException:
            file.discard()
            raise
        with grant:
            grant.won = publish()
        return grant.won

    def grant(self, name: str, identity: int, terms: Terms) -> Grant:
        """Write the lease of an object that is about to appear, and keep it locked until it has."""
        fd = self._open(name, create=True)
        assert fd is not None
        try:
            # One that is there already will win, and its lease, if it has one, is none of ours.
            write = self._storage.identity(name) is None
            grant = Grant(self, name, identity, terms, fd, write)
            if write:
                grant.write()
        except BaseException as error:
            _unlock(fd)
            if isinstance(error, OSError):
                raise self._failure(error) from None
            raise
        return grant

    def lease(self, name: str, terms: Terms | None) -> bool:
        """Give an object a lease, another one, or none; False if there is no object."""
        identity = self._storage.identity(name)
        if identity is None:
            return False
        written = False
        while not written and (fd := self._open(name, create=terms is not None)) is not None:
            try:
                if terms is None:
                    remove(self._path(name))
                    break
                self.write(fd, identity, terms)
                if self._storage.identity(name) is None:  # evicted meanwhile
                    remove(self._path(name))
                    return False
                written = _is(self._path(name), fd)  # else a sweeper that our lock did not reach
            except OSError as error:
                raise self._failure(error) from None
            finally:
                _unlock(fd)
        return True

    def renew(self, name: str) -> float | None:
        """Begin the period of an object's lease anew; return when it runs out, None if there is none."""
        fd = self._open(name)
        if fd is None:
            return None
        try:
            record = Record.read(os.pread(fd, RECORD_BYTES, 0))
            if record is None or self._storage.identity(name) != record.object:
                return None
            record = record.renew(self._now(), self._clock)
            os.pwrite(fd, record.write(), 0)
            return record.renewed + record.seconds
        except OSError as error:
            raise self._failure(error) from None
        finally:
            _unlock(fd)

    def drop(self, name: str) -> None:
        """Forget the lease of an object that was evicted. Where somebody has it locked, a sweep will."""
        with contextlib.suppress(OSError):
            fd = os.open(self._path(name), os.O_RDWR | os.O_CLOEXEC)
            try:
                if try_lock(fd) is not False and self._storage.identity(name) is None:
                    remove(self._path(name))
            finally:
                _unlock(fd)

    # -- for who looks ---------------------------------------------------------------------------

    def until(self, name: str) -> float | None:
        """Return the Unix time at which an object's lease runs out; None if that is not known."""
        try:
            fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            record = Record.read(os.pread(fd, RECORD_BYTES, 0))
        finally:
            os.close(fd)
        if record is None or record.clock != self._clock:
            return None
        if record.object != self._storage.identity(name):
            return None
        left = record.renewed + record.seconds - self._now()
        if left < 0 and self._holders.lives(record.holder):
            return None
        return time.time() + left

    def sweep(self) -> Swept:
        """Delete objects whose lease has run out, and leases whose object is gone."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return Swept(0, None)
        notes = Observations(_contents(self._notes))
        freed, due = 0, list[float]()
        for name in names:
            if not name.startswith("."):
                with contextlib.suppress(OSError):  # gone meanwhile, or another user's
                    freed_here, due_here = self._judge(name, notes)
                    freed += freed_here
                    if due_here is not None:
                        due.append(due_here)
            elif is_unfinished(name):
                self._holders.bury(name)
            elif name.endswith(".seen") and os.path.join(self._folder, name) != self._notes:
                self._forget(name)
        if not due:
            self.remove_if_empty()
            return Swept(freed, None)
        with contextlib.suppress(OSError):  # not even room for notes: other hosts' get a new period
            file = Unfinished(self._folder, fresh_name(self._clock))
            file.write([notes.dump()])
            file.publish(self._notes)
        return Swept(freed, min(due))

    def remove_if_empty(self) -> None:
        """Take the folder along if there are no leases."""
        with contextlib.suppress(OSError):
            if os.listdir(self._folder) == [os.path.basename(self._notes)]:
                remove(self._notes)
            os.rmdir(self._folder)

    def close(self) -> None:
        """Hold nothing any more."""
        self._holders.close()

    # -- within ----------------------------------------------------------------------------------

    def write(self, fd: int, identity: int, terms: Terms) -> None:
        """Write a lease that begins now into its locked file."""
        before = Record.read(os.pread(fd, RECORD_BYTES, 0))
        turn = 0 if before is None else before.turn + 1
        holder = self._holders.own() if terms.held else ""
        record = Record(terms.seconds, turn, self._now(), self._clock, identity, holder)
        os.pwrite(fd, record.write(), 0)

    def settle(self, grant: Grant) -> None:
        """Leave a lease behind if its object has appeared, none of ours if not; unlock it."""
        lost = False
        try:
            if grant.won:
                if not grant.written:  # the one that was there was evicted just then
                    grant.write()
                # Where locks do not reach other hosts, a sweeper there may have taken it for a leftover.
                lost = not _is(self._path(grant.name), grant.fd)
            elif grant.written:
                remove(self._path(grant.name))
        finally:
            _unlock(grant.fd)
        if lost:
            self.lease(grant.name, grant.terms)

    def _judge(self, name: str, notes: Observations) -> tuple[int, float | None]:
        """Delete the object of one lease if it is overdue; return the bytes freed, and when it will be."""
        path = self._path(name)
        record = Record.read(_read(path)) or UNREADABLE
        identity = self._storage.identity(name)
        due = self._due(name, record, notes)
        if self._now() <= due and not self._left_over(record, identity):
            return 0, due
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            locked = try_lock(fd)
            if locked is False or not _is(path, fd):
                return 0, due  # about to appear, or renewed this moment, or swept by another
            record = Record.read(os.pread(fd, RECORD_BYTES, 0)) or UNREADABLE
            due = self._due(name, record, notes)
            identity = self._storage.identity(name)
            if self._now() <= due and not (locked and self._left_over(record, identity)):
                return 0, due
            freed = 0
            if identity == record.object:
                if self._now() <= due or self._holders.lives(record.holder):
                    return 0, due
                freed = self._storage.delete(name)
            remove(path)
            return freed, None
        finally:
            _unlock(fd)

    def _left_over(self, record: Record, identity: int | None) -> bool:
        """Return whether a lease that nobody has locked is of no object, or was never written."""
        # Another host's object may be there although this one does not see it yet.
        ours = record.clock == self._clock
        return record is UNREADABLE or (ours and identity != record.object)

    def _due(self, name: str, record: Record, notes: Observations) -> float:
        if record.clock == self._clock:
            return record.renewed + record.seconds
        return notes.note(name, record, self._now())

    def _open(self, name: str, *, create: bool = False) -> int | None:
        """Return a lease's file, locked; None if there is none."""
        path = self._path(name)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        while True:
            try:
                fd = os.open(path, flags, 0o666)
            except FileNotFoundError:
                if not create:
                    return None
                # Not with its parents: a storage that is gone must not come back without its marks.
                with contextlib.suppress(FileExistsError):
                    self._make()
                continue
            except OSError as error:
                raise self._failure(error) from None
            try:
                if try_lock(fd) is False and not poll(
                    lambda fd=fd: try_lock(fd) is not False,  # type: ignore[misc]
                    _PATIENCE_SECONDS,
                ):
                    raise BrokenError(
                        path, "a suspended process has this lease locked; resume or end it"
                    )
                if _is(path, fd):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)

    def _make(self) -> None:
        try:
            os.mkdir(self._folder)
        except FileExistsError:
            raise
        except OSError as error:
            raise self._failure(error) from None

    def _forget(self, notes: str) -> None:
        with contextlib.suppress(OSError):
            if time.time() - os.stat(self._path(notes)).st_mtime > _FORGOTTEN_SECONDS:
                remove(self._path(notes))

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    def _failure(self, error: OSError) -> Exception:
        if isinstance(error, BrokenError | FullError):
            return error
        where = f"folder {self._storage_folder!r}"
        if full(error):
            return FullError(where, RECORD_BYTES, _HINT)
        return BrokenError(where, error.strerror)


def _is(path: str, fd: int) -> bool:
    """Return whether the open file lies at `path`."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, RECORD_BYTES, 0)
    finally:
        os.close(fd)


def _contents(path: str) -> bytes:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read()
    return b""


def _unlock(fd: int) -> None:
    """Unlock and close, whatever a forked child still holds open."""
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)
