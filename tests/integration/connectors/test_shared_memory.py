"""Recycling, pins, budget, forks and leaving: what the contract cannot see from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from integration.connectors.conftest import Open
from isthmus.connectors.shm import SharedMemoryConnector, SharedMemoryKey
from isthmus.errors import BrokenError, ElsewhereError, KeyTypeError, SpecError
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
