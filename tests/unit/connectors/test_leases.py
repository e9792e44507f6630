"""Leases in a folder, on clocks that the test sets, for hosts that the test makes up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.file import FileConnector
from isthmus.connectors.leases import LeaseFolder, Terms, Upkept, now, stale, terms
from isthmus.connectors.leases import folder as lease_folder
from isthmus.connectors.leases.record import RECORD_BYTES, Observations, Record
from isthmus.connectors.leases.upkeep import OFTEN_SECONDS, SELDOM_SECONDS, Upkeep
from isthmus.connectors.unfinished import Unfinished
from isthmus.errors import BrokenError, ClosedError, FullError

HERE, THERE = "aaaaaaaa", "bbbbbbbb"
NAME = "aaaaaaaa-1-000000000001"


class Objects:
    """A storage of files in a folder, one number each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def identity(self, name: str) -> int | None:
        try:
            return int((self.folder / name).read_text())
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> int:
        (self.folder / name).unlink()
        return 7


class Host:
    """A host's view of the folder, and its clock."""

    def __init__(self, folder: Path, name: str, time: float) -> None:
        self.time = time
        self.objects = Objects(folder)
        self.leases = LeaseFolder(str(folder), self.objects, clock=lambda: self.time, clock_id=name)

    def put(self, terms: Terms, identity: int = 1, name: str = NAME) -> None:
        with self.leases.grant(name, identity, terms) as grant:
            (self.objects.folder / name).write_text(str(identity))
            grant.won = True

    def has(self, name: str = NAME) -> bool:
        return self.objects.identity(name) is not None


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path, HERE, 1_000.0)
    yield host
    host.leases.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Host]:
    # A clock that has nothing to do with ours: that host was started later.
    host = Host(tmp_path, THERE, 5.0)
    yield host
    host.leases.close()


TEN = Terms(10.0, False)
HELD = Terms(10.0, True)


def test_a_record_comes_back_and_a_damaged_one_does_not() -> None:
    record = Record(0.1, 3, 1234.5678, HERE, 99, ".x.part")
    data = record.write()
    assert len(data) == RECORD_BYTES
    assert Record.read(data) == record
    assert Record.read(record._replace(holder="").write()) == record._replace(holder="")
    for damaged in (b"", data[:40], data[:-1], bytes(RECORD_BYTES), b"other" + data[5:]):
        assert Record.read(damaged) is None


def test_an_observation_counts_from_when_it_was_made_and_begins_anew_when_renewed() -> None:
    record = Record(10.0, 0, 1_000_000.0, THERE, 1)
    seen = Observations()
    assert seen.due("x", record) is None
    assert seen.note("x", record, 50.0) == 60.0
    assert seen.note("x", record, 55.0) == 60.0
    again = Observations(seen.dump())
    assert again.note("x", record, 58.0) == 60.0
    assert again.note("x", record.renew(1_000_001.0, THERE), 59.0) == 69.0
    assert Observations(again.dump()).dump() == b"{}"  # what was not met again is forgotten
    assert Observations(b'{"x": ').note("x", record, 58.0) == 68.0


def test_the_period_is_timed_on_the_hosts_clock(here: Host) -> None:
    here.put(TEN)
    here.time += 10.0
    assert here.leases.sweep() == (0, 1_010.0)
    assert here.leases.renew(NAME) == 1_020.0
    here.time += 10.0
    here.leases.sweep()
    assert here.has()
    here.time += 0.1
    assert here.leases.sweep() == (7, None)
    assert not here.has()
    assert not os.path.exists(here.objects.folder / ".leases")


def test_another_host_gives_the_whole_period_from_when_it_first_looked(
    here: Host, there: Host
) -> None:
    here.put(TEN)
    here.time += 1_000.0  # long overdue by its own host's clock, which nobody else can know
    assert there.leases.sweep() == (0, 15.0)
    there.time += 9.0
    there.leases.sweep()
    assert there.has()
    assert there.leases.until(NAME) is None
    # Another process of that host goes on where the first left off.
    later = Host(there.objects.folder, THERE, there.time)
    later.time += 1.1
    assert later.leases.sweep().freed == 7
    assert not there.has()


def test_a_renewal_is_seen_by_another_host(here: Host, there: Host) -> None:
    here.put(TEN)
    for _ in range(5):
        there.leases.sweep()
        there.time += 8.0
        assert here.leases.renew(NAME) is not None  # its own clock stands still meanwhile
    there.leases.sweep()
    assert there.has()
    there.time += 10.1
    there.leases.sweep()
    assert not here.has()
    assert here.leases.renew(NAME) is None


def test_a_renewal_by_another_host_moves_the_lease_to_its_clock(here: Host, there: Host) -> None:
    here.put(TEN)
    assert there.leases.renew(NAME) == 15.0
    here.time += 100.0
    assert here.leases.sweep() == (0, 1_110.0)
    there.time += 10.1
    assert there.leases.sweep().freed == 7


def test_what_is_held_is_kept_while_the_holder_lives(tmp_path: Path, here: Host) -> None:
    holder = Host(tmp_path, HERE, 1_000.0)
    holder.put(HELD)
    here.time += 100.0
    assert here.leases.until(NAME) is None
    assert here.leases.sweep().freed == 0
    assert here.leases.renew(NAME) == 1_110.0  # from elsewhere, and still held
    here.time += 100.0
    assert here.leases.sweep().freed == 0
    holder.leases.close()
    assert here.leases.sweep() == (7, None)


def test_another_host_does_not_know_who_lives(here: Host, there: Host) -> None:
    here.put(HELD)
    there.leases.sweep()
    there.time += 10.1
    assert there.leases.sweep().freed == 7


def test_a_lease_of_a_missing_object_goes_here_at_once_and_there_in_time(
    here: Host, there: Host
) -> None:
    here.put(TEN)
    (here.objects.folder / NAME).unlink()  # a process killed in the middle of an eviction
    lease = here.objects.folder / ".leases" / NAME
    there.leases.sweep()
    assert lease.exists()  # perhaps its file server has not told yet that the object is there
    there.time += 10.1
    there.leases.sweep()
    assert not lease.exists()
    here.put(TEN)
    (here.objects.folder / NAME).unlink()
    here.leases.sweep()
    assert not lease.exists()


def test_a_successor_under_the_same_key_is_not_leased(here: Host) -> None:
    here.put(TEN)
    (here.objects.folder / NAME).write_text("2")
    assert here.leases.renew(NAME) is None
    assert here.leases.until(NAME) is None
    here.time += 11.0
    assert here.leases.sweep().freed == 0
    assert here.has()


def test_who_loses_a_race_leaves_the_winners_lease(here: Host) -> None:
    here.put(TEN)
    with here.leases.grant(NAME, 2, Terms(500.0, False)):
        pass
    assert here.leases.sweep() == (0, 1_010.0)
    here.leases.lease(NAME, None)
    with here.leases.grant(NAME, 2, TEN):
        pass
    here.time += 11.0
    here.leases.sweep()
    assert here.has()


def test_an_object_that_did_not_appear_leaves_no_lease(here: Host) -> None:
    with pytest.raises(KeyError), here.leases.grant(NAME, 1, TEN):
        raise KeyError
    assert here.leases.sweep() == (0, None)


def test_a_lease_that_a_sweeper_took_while_its_object_appeared_is_written_again(
    here: Host,
) -> None:
    with here.leases.grant(NAME, 1, TEN) as grant:
        (here.objects.folder / ".leases" / NAME).unlink()  # where locks do not reach
        (here.objects.folder / NAME).write_text("1")
        grant.won = True
    assert here.leases.sweep() == (0, 1_010.0)


def test_a_lease_that_is_being_written_is_no_leftover(here: Host, there: Host) -> None:
    with here.leases.grant(NAME, 1, TEN) as grant:
        here.time += 100.0
        assert Host(here.objects.folder, HERE, 5_000.0).leases.sweep().freed == 0
        there.leases.sweep()
        (here.objects.folder / NAME).write_text("1")
        grant.won = True
    assert here.leases.until(NAME) is not None


def test_a_file_that_a_killed_process_did_not_write_goes(here: Host) -> None:
    here.put(TEN, name="other")
    (here.objects.folder / ".leases" / NAME).touch()
    (here.objects.folder / NAME).write_text("1")
    here.leases.sweep()
    assert here.has()
    assert sorted(os.listdir(here.objects.folder / ".leases")) == [f".{HERE}.seen", "other"]


def test_a_suspended_process_that_has_a_lease_locked_is_said(
    here: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_folder, "_PATIENCE_SECONDS", 0.0)
    here.put(TEN)
    with open(here.objects.folder / ".leases" / NAME) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for use in (here.leases.renew, lambda name: here.leases.lease(name, TEN)):
            with pytest.raises(BrokenError, match="suspended"):
                use(NAME)
        here.time += 100.0
        here.leases.sweep()
        assert here.has()
    here.leases.sweep()
    assert not here.has()


def test_a_storage_says_whether_it_was_swept(tmp_path: Path) -> None:
    assert not stale(str(tmp_path), 60.0)
    with FileConnector(tmp_path) as connector:
        connector.put(b"leased", lease=600.0)
        assert stale(str(tmp_path), 60.0)
        connector.sweep()
        assert not stale(str(tmp_path), 60.0)
        assert stale(str(tmp_path), 0.0)


def test_notes_of_a_host_that_never_comes_again_go(here: Host) -> None:
    here.put(TEN)
    old = here.objects.folder / ".leases" / ".cccccccc.seen"
    for age, kept in ((3_600.0, True), (90_000.0, False)):
        old.touch()
        os.utime(old, (old.stat().st_atime - age,) * 2)
        here.leases.sweep()
        assert old.exists() is kept


def test_a_disk_without_room_for_the_lease_has_none_for_the_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(28, os.strerror(28))

    with FileConnector(tmp_path) as connector:
        with monkeypatch.context() as patched:
            patched.setattr(lease_folder.os, "pwrite", full)
            with pytest.raises(FullError, match="256 bytes"):
                connector.put(b"x", lease=5.0)
        assert list(connector.list()) == []
        connector.sweep()
        assert os.listdir(tmp_path) == []


def test_a_forked_child_does_not_hold_for_its_parent(tmp_path: Path, here: Host) -> None:
    parent = Host(tmp_path, HERE, 1_000.0)
    parent.put(HELD)
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    os.close(ours)
    try:
        parent.leases.close()  # the child lives on
        here.time += 11.0
        assert here.leases.sweep().freed == 7
    finally:
        os.close(theirs)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    "wrong", [0, -1, float("inf"), float("nan"), pytest.param(10**400, id="10**400")]
)
def test_what_is_no_lease(wrong: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        terms(wrong, False)
    assert terms(None, False) is None
    assert terms(3, True) == (3.0, True)


@pytest.mark.parametrize("wrong", ["60", True, timedelta(minutes=1)], ids=str)
def test_what_is_no_number_of_seconds(wrong: Any) -> None:
    with pytest.raises(TypeError, match="number of seconds, got"):
        terms(wrong, False)


class Owner:
    """Says when it wants to be swept next, and counts how often it was."""

    def __init__(self, *dues: float | None) -> None:
        self.dues = list(dues)
        self.swept = threading.Semaphore(0)

    def _sweep_leases(self) -> float | None:
        self.swept.release()
        return self.dues.pop(0) if self.dues else None


def test_the_thread_sweeps_what_is_due_and_ends_when_nothing_is_leased() -> None:
    upkeep = Upkeep()
    owner: Upkept = Owner()
    upkeep.watch(owner, now())
    assert isinstance(owner, Owner)
    assert owner.swept.acquire(timeout=30)
    _ended(upkeep)
    upkeep.watch(owner, now())
    assert owner.swept.acquire(timeout=30)
    _ended(upkeep)


def test_a_storage_is_swept_neither_too_often_nor_too_seldom() -> None:
    upkeep = Upkeep()
    for due, soonest in ((now() - 5, OFTEN_SECONDS), (now() + 1_000_000, SELDOM_SECONDS)):
        owner = Owner(due)
        began = now()
        upkeep.watch(owner, began)
        assert owner.swept.acquire(timeout=30)
        with contextlib.ExitStack() as stack:
            stack.enter_context(upkeep.paused())
            assert upkeep._watched[id(owner)].at >= began + soonest - 0.001
            assert upkeep._watched[id(owner)].at <= now() + SELDOM_SECONDS
        upkeep.forget(owner)
    _ended(upkeep)


def test_a_forgotten_or_collected_owner_is_left_alone() -> None:
    upkeep = Upkeep()
    owner, other = Owner(), Owner()
    with upkeep.paused():
        upkeep.watch(owner, now())
        upkeep.watch(other, now())
        upkeep.forget(owner)
        gone = weakref.ref(other)
        del other
        assert gone() is None
    _ended(upkeep)
    assert not owner.swept.acquire(blocking=False)


@pytest.mark.parametrize("error", [BrokenError("folder", "away"), ClosedError("x")])
def test_a_sweep_that_fails_is_tried_again_unless_the_connector_was_closed(
    error: Exception,
) -> None:
    class Failing(Owner):
        def _sweep_leases(self) -> float | None:
            super()._sweep_leases()
            raise error

    upkeep, owner = Upkeep(), Failing()
    upkeep.watch(owner, now())
    assert owner.swept.acquire(timeout=30)
    if isinstance(error, BrokenError):
        with upkeep.paused():
            assert upkeep._watched[id(owner)].at > now()
        upkeep.forget(owner)
    _ended(upkeep)


def test_who_is_dropped_without_being_closed_keeps_no_thread() -> None:
    upkeep = Upkeep()
    owner = Owner()
    upkeep.watch(owner, now() + 1_000_000)
    del owner
    _ended(upkeep)


def _ended(upkeep: Upkeep) -> None:
    thread = upkeep._thread
    if thread is not None:
        thread.join(30)
    assert upkeep._thread is None


def test_a_file_is_discarded_if_its_lease_cannot_be_written(tmp_path: Path, here: Host) -> None:
    (tmp_path / ".leases").write_text("not a folder")
    file = Unfinished(str(tmp_path), NAME)
    with pytest.raises(BrokenError):
        here.leases.publish(NAME, TEN, file, lambda: True)
    assert os.listdir(tmp_path) == [".leases"]
