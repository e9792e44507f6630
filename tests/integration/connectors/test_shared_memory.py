"""Recycling, pins, budget, forks and leaving: what the contract cannot see from outside."""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration.connectors.conftest import Open
from isthmus.connectors.shm import SharedMemoryConnector, SharedMemoryKey, ledger, segment, session
from isthmus.errors import BrokenError, ClosedError, ElsewhereError, KeyTypeError, SpecError
from isthmus.testing import chores
from isthmus.testing.chores import pattern, seed_of
from isthmus.testing.peer import Peer

MB = 1_000_000


def inode(connector: SharedMemoryConnector, key: SharedMemoryKey) -> int:
    return os.stat(connector._here().area.path(key.name)).st_ino


def used(connector: SharedMemoryConnector) -> int:
    return connector._here().ledger.used


def test_an_evicted_file_is_the_next_objects(open_shm: Open) -> None:
    c = open_shm()
    first = c.put(pattern(1, 4 * MB))
    there = inode(c, first)
    for seed in range(2, 5):  # without a mapping of the file, then with one
        c.evict(first)
        first = c.put(pattern(seed, 4 * MB - seed))
        assert inode(c, first) == there
        assert len(c.get(first)) == 4 * MB - seed
        assert seed_of(c.get(first)) == seed


def test_a_file_is_not_recycled_under_a_reader(open_shm: Open) -> None:
    c = open_shm()
    first = c.put(pattern(1, 4 * MB))
    there = inode(c, first)
    part = memoryview(c.get(first))[3 * MB :]  # what derives from a view pins as the view does
    c.evict(first)
    second = c.put(pattern(2, 4 * MB))
    assert inode(c, second) != there
    assert part == pattern(1, 4 * MB)[3 * MB :]


def test_a_reader_elsewhere_pins_until_it_is_killed(open_shm: Open) -> None:
    c = open_shm()
    first, second = c.put(pattern(1, 4 * MB)), c.put(pattern(2, 4 * MB))
    places = inode(c, first), inode(c, second)
    with Peer(c) as peer:
        peer.call(chores.hold, first)
        peer.call(chores.hold, second)
        c.evict(first)
        third = c.put(pattern(3, 4 * MB))
        assert inode(c, third) not in places
        assert peer.call(chores.still_held) == [1, 2]
        peer.kill()
    c.evict(second)
    fourth = c.put(pattern(4, 4 * MB))
    assert inode(c, fourth) == places[1]


def test_views_are_copy_on_write(open_shm: Open) -> None:
    c = open_shm()
    key = c.put(pattern(1, MB))
    mine, yours = c.get(key), c.get(key)
    assert isinstance(mine, memoryview)
    mine[:8] = bytes(8)
    assert seed_of(yours) == 1
    assert seed_of(c.get(key)) == 1
    assert bytes(mine[:8]) == bytes(8)


def test_objects_beyond_the_budget_spill_and_come_back(open_shm: Open) -> None:
    c = open_shm(max_bytes=5 * MB)
    keys = [c.put(pattern(i, MB)) for i in range(8)]
    on_disk = [os.path.islink(c._here().area.path(key.name)) for key in keys]
    assert sum(on_disk) == 3
    assert [seed_of(c.get(key)) for key in keys] == list(range(8))
    c.evict(keys[0])
    again = c.put(pattern(9, MB))
    assert not os.path.islink(c._here().area.path(again.name)), "there is room again"
    with Peer(c) as peer:
        assert [peer.call(chores.get, key)[:1] for key in keys[1:]] == [
            pattern(i, 1) for i in range(1, 8)
        ]


def test_the_count_of_used_bytes_is_put_right(open_shm: Open) -> None:
    c = open_shm(max_bytes=5 * MB)
    c._here().ledger.book(5 * MB)  # as by a process that is killed before it makes the file
    key = c.put(pattern(1, MB))
    assert not os.path.islink(c._here().area.path(key.name))
    assert used(c) == MB


def test_all_processes_share_one_budget(open_shm: Open) -> None:
    c = open_shm(max_bytes=5 * MB)
    with Peer(c) as peer:
        theirs = [peer.call(chores.put, i, MB) for i in range(4)]
        key = c.put(pattern(1, 2 * MB))
        assert os.path.islink(c._here().area.path(key.name))
        peer.call(chores.evict, theirs[0])
        c.evict(theirs[1])
        key = c.put(pattern(1, 2 * MB))
        assert not os.path.islink(c._here().area.path(key.name))


def test_another_handle_gives_up_its_pool_when_asked(open_shm: Open) -> None:
    c, d = open_shm(max_bytes=64 * MB), open_shm(max_bytes=64 * MB)
    d.evict(d.put(bytes(7 * MB)))
    assert used(c) == 7 * MB
    last = d.put(bytes(100_000))
    c.put(bytes(60 * MB))  # does not fit beside it: asks
    d.evict(last)
    assert used(c) < MB


def test_small_objects_leave_no_segment_behind(open_shm: Open) -> None:
    c = open_shm()
    keys = [c.put(pattern(i, 30_000)) for i in range(400)]  # 12 MB: three segments
    folder = c._here().area.folder
    assert len([n for n in os.listdir(folder) if n.endswith(".seg")]) == 3
    for key in keys[::-1]:
        c.evict(key)
    assert len([n for n in os.listdir(folder) if n.endswith(".seg")]) == 1
    with Peer(c) as peer:
        key = peer.call(chores.put, 1, 10)
        peer.kill()
    c.evict(key)
    assert c.sweep() > 0
    assert len([n for n in os.listdir(folder) if n.endswith(".seg")]) == 1


def test_the_last_to_close_takes_everything_empty_along(open_shm: Open, tmp_path: Path) -> None:
    c, d = open_shm(max_bytes=64 * MB), open_shm()
    folder = c._here().area.folder
    key = c.put(pattern(1, 3 * MB))
    c.evict(c.put(pattern(2, 3 * MB)))
    c.put(b"small")
    c.close()
    assert os.path.isdir(folder)
    d.clear()
    d.close()
    assert not os.path.exists(folder)
    again = open_shm(max_bytes=0)
    spilled = again.put(pattern(3, MB))
    again.close()
    assert os.path.isdir(folder), "it holds an object"
    again = open_shm()
    assert not again.exists(key)
    assert seed_of(again.get(spilled)) == 3
    again.evict(spilled)
    again.close()
    assert not os.path.exists(folder)
    assert not os.listdir(tmp_path / "spill")


def test_an_exit_without_close_leaves_objects_only(area: str) -> None:
    code = f"""
    from isthmus.connectors.shm import SharedMemoryConnector
    c = SharedMemoryConnector({area!r})
    c.evict(c.put(bytes(3_000_000)))
    c.put(b"kept")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    with SharedMemoryConnector(area) as c:
        files = [n for n in os.listdir(c._here().area.folder) if not n.startswith(".")]
        assert [n[-4:] for n in files if n != "spill"] == [".seg"]
        assert used(c) < 1_000
        assert [bytes(c.get(SharedMemoryKey(*info.key)) or b"") for info in c.list()] == [b"kept"]
        c.clear()


def test_a_forked_child_takes_nothing_of_its_parents(open_shm: Open) -> None:
    c = open_shm()
    c.put(b"opens a segment")
    c.evict(c.put(bytes(3 * MB)))  # in the pool
    pid = os.fork()
    if not pid:
        code = 1
        try:
            theirs = c.put(bytes(3 * MB))
            c.evict(theirs)
            c.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with Peer(c) as peer:
        assert peer.call(_sweep) == 0, "the child let go of a lock of ours"
        assert c.get(c.put(b"after")) == b"after"
        there = [f.fd for f in c._here().pool._free]
        assert len(there) == 1
        assert seed_of(c.get(c.put(pattern(1, 3 * MB)))) == 1


def test_a_child_that_outlives_its_parent_holds_no_lock_of_it(open_shm: Open) -> None:
    c = open_shm()
    with Peer(c) as peer:
        child = peer.call(_fork_and_stay)
        key = peer.call(chores.put, 1, 100)
        peer.kill()
        try:
            c.evict(key)
            assert c.sweep() > 0, "the child keeps its parent's segment locked"
        finally:
            os.kill(child, 9)


def test_many_views_leave_descriptors_for_others(area: str) -> None:
    code = f"""
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    from isthmus.connectors.shm import SharedMemoryConnector
    from isthmus.testing.chores import pattern, seed_of
    with SharedMemoryConnector({area!r}) as c:
        keys = [c.put(pattern(i, 100_000)) for i in range(100)]
        views = [c.get(key) for key in keys]
        others = [open("/dev/null") for _ in range(8)]
        assert [seed_of(view) for view in views] == list(range(100))
        for file in others:
            file.close()
        c.clear()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_another_hosts_object_is_not_just_missing(open_shm: Open) -> None:
    c = open_shm()
    for key in (
        SharedMemoryKey("0badcafe-1f-0123456789ab"),
        SharedMemoryKey("0badcafe-1f-0123456789ab", 88, 5),
    ):
        for operation in (c.get, c.exists, c.evict, c.stat, c.wait):
            with pytest.raises(ElsewhereError, match="0badcafe"):
                operation(key)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["../../etc/passwd", "", ".ledger", "spill", "a" * 500])
def test_a_key_cannot_lead_out_of_the_folder(open_shm: Open, name: str) -> None:
    c = open_shm()
    for operation in (c.get, c.evict):
        with pytest.raises(KeyTypeError):
            operation(SharedMemoryKey(name))  # type: ignore[operator]


def test_a_made_up_place_in_a_segment_holds_nothing(open_shm: Open) -> None:
    c = open_shm()
    key = c.put(pattern(1, 1000))
    for offset in (0, 8, key.offset - 1, key.offset + 8, 1 << 40):
        for size in (0, 8, 1000, 1 << 40):
            assert c.get(key._replace(offset=offset, size=size)) is None
    with pytest.raises(KeyTypeError, match="reserve"):
        c.put_at(key, b"x")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "x" * 65, "é"])
def test_a_name_must_be_a_folders(name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        SharedMemoryConnector(name)


@pytest.mark.parametrize("place", ["/proc", "/dev/null", "absent"])
def test_a_place_that_takes_no_folder_is_said(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In /proc a folder fails as if its parent were gone: nothing to try again."""
    monkeypatch.setenv("ISTHMUS_SHM_DIR", str(tmp_path / place))
    with pytest.raises(BrokenError, match=f"{place}/isthmus-.*ISTHMUS_SHM_DIR"):
        SharedMemoryConnector("x")


def test_a_relative_place_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISTHMUS_SHM_DIR", ".")
    with SharedMemoryConnector("x") as connector:
        monkeypatch.chdir("/")
        assert connector.get(connector.put(pattern(1, MB))) == pattern(1, MB)
        connector.clear()


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(SpecError, match="negative"):
        SharedMemoryConnector("x", max_bytes=-1)


def test_one_area_spills_to_one_place(open_shm: Open, area: str, tmp_path: Path) -> None:
    c = open_shm(max_bytes=0)
    with pytest.raises(SpecError, match="spills to"):
        SharedMemoryConnector(area, spill_dir=tmp_path / "elsewhere")
    key = c.put(pattern(1, MB))
    with SharedMemoryConnector(area) as without:
        assert seed_of(without.get(key)) == 1


def test_a_foreign_folder_is_not_used(tmp_path: Path) -> None:
    from isthmus.connectors.shm.area import private_folder

    own = tmp_path / "own"
    own.mkdir(mode=0o777)
    private_folder(str(own))
    assert own.stat().st_mode & 0o777 == 0o700
    link = tmp_path / "link"
    link.symlink_to(own)
    with pytest.raises(BrokenError, match="not a folder of this user"):
        private_folder(str(link))
    if os.getuid() == 0:
        os.chown(own, 12345, -1)
        with pytest.raises(BrokenError, match="not a folder of this user"):
            private_folder(str(own))


def _sweep(connector: SharedMemoryConnector) -> int:
    return connector.sweep()


def _fork_and_stay(connector: SharedMemoryConnector) -> int:
    connector.put(b"opens a segment")
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(theirs, b"!")  # what runs in a forked child has run
        time.sleep(60)
        os._exit(0)
    os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    return pid


class Interrupted:
    """A module one of whose functions does something else first, as if a process were stopped there."""

    def __init__(self, module: Any, name: str, first: Callable[[], object]) -> None:
        self._module, self._name, self._first = module, name, first

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)
        if name != self._name:
            return function

        def interrupted(*args: Any, **options: Any) -> Any:
            first, self._first = self._first, lambda: None
            first()
            return function(*args, **options)

        return interrupted


def test_a_new_segment_is_not_swept_before_it_is_locked(
    open_shm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    c, sweeper = open_shm(), open_shm()
    monkeypatch.setattr(segment, "fcntl", Interrupted(fcntl, "flock", sweeper.sweep))
    key = c.put(b"kept")
    assert c.get(key) == b"kept"


@pytest.mark.parametrize("step", ["pwrite", "ftruncate", "fstat"])
def test_an_owner_killed_while_it_makes_a_segment_harms_nobody(open_shm: Open, step: str) -> None:
    c = open_shm()
    with Peer(c) as peer:
        with pytest.raises((EOFError, ConnectionError)):
            peer.call(_put_and_die, step)
    with Peer(c) as peer:  # in a process of its own: reading beyond the end of a file kills
        peer.call(_sweep)
    assert not [name for name in os.listdir(c._here().area.folder) if name.endswith(segment.SUFFIX)]
    assert used(c) == 0


def test_who_comes_second_has_a_budget(open_shm: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[SharedMemoryConnector] = []
    second = threading.Thread(target=lambda: opened.append(open_shm()))

    def come() -> None:
        second.start()
        second.join(0.5)  # it has to wait for the first

    monkeypatch.setattr(ledger, "mmap", Interrupted(mmap, "mmap", come))
    opened.append(open_shm())
    second.join()
    limits = [connector._here().ledger.limit for connector in opened]
    assert limits[0] == limits[1] > 0


def test_a_forgotten_connector_may_close_while_another_counts(open_shm: Open, area: str) -> None:
    c = open_shm()
    other: Any = SharedMemoryConnector(area)
    other.put(b"in a segment, which closing seals")
    other.itself = other  # so that only the garbage collector finds it
    del other
    done = threading.Event()

    def collect() -> None:
        with c._here().ledger.locked():
            gc.collect()
        done.set()

    threading.Thread(target=collect, daemon=True).start()
    assert done.wait(10)


@pytest.mark.parametrize("moment", ["rename", "stat", "try_lock"])
def test_a_sweep_in_the_middle_of_an_eviction(
    open_shm: Open, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    c, sweeper = open_shm(), open_shm()
    key = c.put(pattern(1, MB))
    swept = []

    def sweep() -> None:
        monkeypatch.undo()
        swept.append(sweeper.sweep())

    if moment == "try_lock":
        monkeypatch.setattr(session, "try_lock", Interrupted(session, "try_lock", sweep).try_lock)
    else:
        monkeypatch.setattr(session, "os", Interrupted(os, moment, sweep))
    c.evict(key)
    assert swept
    assert not c.exists(key)
    assert seed_of(c.get(c.put(pattern(2, MB)))) == 2


def test_what_a_killed_process_left_makes_room_for_others(open_shm: Open) -> None:
    c = open_shm(max_bytes=64 * MB)
    with Peer(c) as peer:
        peer.call(chores.evict, peer.call(chores.put, 1, 7 * MB))  # kept there for the next object
        peer.kill()
    keys = [c.put(bytes(7 * MB)) for _ in range(9)]
    assert not any(os.path.islink(c._here().area.path(key.name)) for key in keys)


def test_readers_of_many_segments_keep_few_descriptors(
    open_shm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "_SEGMENT_BYTES", 64 << 10)
    c, reader = open_shm(), open_shm()
    keys = [c.put(pattern(i, 30_000)) for i in range(300)]
    before = len(os.listdir("/proc/self/fd"))
    assert [seed_of(reader.get(key)) for key in keys] == list(range(300))
    assert len(os.listdir("/proc/self/fd")) - before <= 64


def test_the_last_descriptor_is_enough_to_read_and_none_is_an_error(area: str) -> None:
    code = f"""
    import contextlib, os, resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    from isthmus.connectors.shm import SharedMemoryConnector
    from isthmus.errors import BrokenError
    from isthmus.testing.chores import pattern, seed_of
    with SharedMemoryConnector({area!r}) as c:
        key = c.put(pattern(1, 100_000))
        taken = []
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        try:
            c.evict(key)
        except BrokenError:
            pass
        else:
            raise AssertionError("neither evicted nor refused")
        os.close(taken.pop())
        assert [seed_of(c.get(key)) for _ in range(20)] == [1] * 20
        for fd in taken:
            os.close(fd)
        c.evict(key)
        assert not c.exists(key)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.parametrize("explicit", [False, True])
def test_what_the_killed_left_of_a_space_goes_when_another_is_opened_or_swept(
    open_shm: Open, tmp_path: Path, explicit: bool
) -> None:
    names = [f"test-{uuid.uuid4().hex}" for _ in range(4)]
    emptied, in_use, large, small = (SharedMemoryConnector(name) for name in names)
    folders = [connector._here().area.folder for connector in (emptied, in_use, large, small)]
    kept = [large.put(bytes(MB)), small.put(b"small")]
    with Peer(emptied) as peer:
        for size in (100, MB):
            peer.call(chores.evict, peer.call(chores.put, 1, size))
        for connector in (emptied, large, small):
            connector.close()
        if explicit:
            neighbour = open_shm()
        peer.kill()
    assert [os.path.isdir(folder) for folder in folders] == [True] * 4
    if explicit:
        neighbour.sweep()
    else:
        open_shm()
    assert [os.path.isdir(folder) for folder in folders] == [False, True, True, True]
    in_use.close()
    for name, key in zip(names[2:], kept, strict=True):
        with SharedMemoryConnector(name) as connector:
            assert connector.exists(key)
            connector.clear()


@pytest.mark.parametrize("explicit", [False, True])
def test_overdue_objects_of_a_space_that_nobody_opens_go_when_another_is_opened_or_swept(
    open_shm: Open, explicit: bool
) -> None:
    name, lease = f"test-{uuid.uuid4().hex}", 0.05
    left = SharedMemoryConnector(name)
    folder = left._here().area.folder
    with Peer(left) as peer:
        left.close()
        neighbour = open_shm() if explicit else None
        for size in (100, MB):
            peer.call(chores.put_leased, 1, size, lease, False)
        peer.kill()
    time.sleep(lease)
    if neighbour is None:
        open_shm()
    else:
        neighbour.sweep()
    deadline = time.monotonic() + 30
    while os.path.isdir(folder) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not os.path.isdir(folder)


def test_spilled_objects_go_with_their_leases(open_shm: Open, tmp_path: Path) -> None:
    c = open_shm(max_bytes=0)
    keys = [c.put(bytes(size), lease=600.0) for size in (100, MB)]
    assert len(os.listdir(os.readlink(c._here().area.path("spill")))) == 2
    assert c.renew(keys) == [True, True]
    assert all(c.lease(key, 0.001) for key in keys)
    # The process's own thread sweeps as well: what it has in hand is not there for us to sweep.
    deadline = time.monotonic() + 30
    while os.path.exists(c._here().area.path(".leases")) and time.monotonic() < deadline:
        c.sweep()
    assert not any(map(c.exists, keys))
    assert not os.listdir(os.readlink(c._here().area.path("spill")))
    assert used(c) == 0


def test_who_never_leases_keeps_no_thread_and_makes_no_folder(open_shm: Open) -> None:
    c = open_shm()
    c.evict(c.put(bytes(MB)))
    c.sweep()
    assert "isthmus-leases" not in {thread.name for thread in threading.enumerate()}
    assert not os.path.exists(c._here().area.path(".leases"))


def test_what_lies_there_of_another_host_is_not_listed(open_shm: Open) -> None:
    c = open_shm()
    for name in ("0badcafe-1f-0123456789ab", "0badcafe-1f-0123456789ab.seg"):
        Path(c._here().area.path(name)).touch()
    assert list(c.list()) == []
    assert c.clear() == 0
    for name in ("0badcafe-1f-0123456789ab", "0badcafe-1f-0123456789ab.seg"):
        Path(c._here().area.path(name)).unlink(missing_ok=True)


@pytest.mark.parametrize("moment", ["rename", "fstat"])
def test_a_thread_that_is_evicting_while_its_connector_is_closed_leaves_nothing(
    open_shm: Open, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    c, watcher = open_shm(), open_shm()
    key = c.put(bytes(MB))

    def close() -> None:
        monkeypatch.undo()
        c.close()

    monkeypatch.setattr(session, "os", Interrupted(os, moment, close))
    with pytest.raises(ClosedError):
        c.evict(key)
    left = os.listdir(watcher._here().area.folder)
    assert not [name for name in left if name.endswith(".part")]


def _put_and_die(connector: SharedMemoryConnector, step: str) -> None:
    segment.os = Interrupted(os, step, lambda: os.kill(os.getpid(), signal.SIGKILL))  # type: ignore[attr-defined]
    connector.put(b"never")


def _sweep(connector: SharedMemoryConnector) -> int:
    return connector.sweep()


def test_who_looks_while_a_segment_is_made_finds_its_objects_later(
    open_shm: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[list[Any]] = []

    def look_first(fd: int, size: int) -> None:
        if not looked:  # the segment's file has a header, and no room yet
            looked.append(list(other.list()))
        real(fd, size)

    real = os.ftruncate
    connector, other = open_shm(), open_shm()
    monkeypatch.setattr(os, "ftruncate", look_first)
    key = connector.put(b"small")
    assert looked == [[]]
    assert other.get(key) == b"small"
    assert [info.key for info in other.list()] == [key]
    other.evict(key)
    assert connector.get(key) is None
