"""No room: a clear error or a spill, nothing lost, nothing torn, nothing left over."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from integration.connectors.conftest import RunSmall

COUNT = """
import os
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.errors import FullError
from isthmus.testing.chores import pattern, seed_of

def memory_left():
    space = os.statvfs("/dev/shm")
    return space.f_bavail * space.f_frsize

def unfinished(top):
    return [n for _, _, names in os.walk(top) for n in names if n.endswith(".part")]
"""


@pytest.mark.parametrize("budget", [None, 1 << 40])
def test_what_memory_cannot_hold_goes_to_disk(run_small: RunSmall, budget: int | None) -> None:
    """With a budget from what is free, and with one that promises more than there is (ENOSPC)."""
    run_small(
        COUNT
        + f"""
with SharedMemoryConnector("x", max_bytes={budget}, spill_dir="disk") as c:
    large = {{c.put(pattern(i, 1_000_000)): i for i in range(20)}}
    small = {{c.put(pattern(i, 1_000)): i for i in range(2_000)}}
    for keys, size in ((large, 1_000_000), (small, 1_000)):
        for key, seed in keys.items():
            data = c.get(key)
            assert len(data) == size and seed_of(data) == seed
    del data
    assert len(list(c.list())) == 2_020
    assert os.listdir(c._here().spill.place)
    c.clear()
    assert not os.listdir(c._here().spill.place)
assert memory_left() == os.statvfs("/dev/shm").f_blocks * 4096
assert not os.listdir("/dev/shm"), os.listdir("/dev/shm")
""",
        shm="8m",
    )


def test_a_full_disk_beyond_full_memory_is_an_error(run_small: RunSmall) -> None:
    run_small(
        COUNT
        + """
with SharedMemoryConnector("x", max_bytes=1 << 40, spill_dir="disk") as c:
    keys = {}
    try:
        for i in range(100):
            keys[c.put(pattern(i, 1_000_000))] = i
    except FullError as error:
        assert "1000000 bytes" in str(error) and "evict" in str(error), error
    else:
        raise AssertionError("100 MB fitted into 12")
    assert 8 <= len(keys) <= 12
    for key, seed in keys.items():
        assert seed_of(c.get(key)) == seed
    assert len(list(c.list())) == len(keys)
    assert not unfinished("/dev/shm")
    links = [n for n in os.listdir(c._here().area.folder) if os.path.islink(c._here().area.path(n))]
    assert len(unfinished("disk")) == len(links) - 1  # one leads to the folder
    reserved = c.reserve()
    try:
        c.put_at(reserved, bytes(5_000_000))
    except FullError:
        assert not c.exists(reserved)
    else:
        raise AssertionError("it fitted")
    c.evict(next(iter(keys)))
    assert c.put_at(reserved, pattern(7, 900_000))
    assert seed_of(c.get(reserved)) == 7
    c.clear()
assert not os.listdir("/dev/shm")
""",
        shm="8m",
        disk="4m",
    )


def test_what_is_kept_for_reuse_is_given_up_first(run_small: RunSmall) -> None:
    run_small(
        COUNT
        + """
with SharedMemoryConnector("x", max_bytes=64_000_000, spill_dir="disk") as c:
    c.evict(c.put(bytes(7_000_000)))  # recycled: it still fills 7 of 16 MB
    assert memory_left() < 10_000_000
    key = c.put(pattern(1, 15_000_000))
    assert seed_of(c.get(key)) == 1
    assert not os.path.exists(c._here().spill.place), "it went to disk"
    c.clear()
""",
        shm="16m",
    )


def test_a_full_disk_leaves_nothing_of_the_object(run_small: RunSmall) -> None:
    run_small(
        """
        import os
        from isthmus.connectors.file import FileConnector
        from isthmus.errors import FullError
        from isthmus.testing.chores import pattern, seed_of

        c = FileConnector("disk")
        keys = {}
        try:
            for i in range(10):
                keys[c.put([pattern(i, 500_000), bytes(500_000)])] = i
        except FullError as error:
            assert "1000000 bytes" in str(error) and "folder" in str(error), error
        else:
            raise AssertionError("10 MB fitted into 4")
        assert len(keys) == len(os.listdir("disk")) == 4
        for key, seed in keys.items():
            assert bytes(c.get(key))[:500_000] == pattern(seed, 500_000)
        c.evict(next(iter(keys)))
        assert c.exists(c.put(bytes(1_000_000)))
        """,
        disk="4m",
    )


def test_a_file_size_limit_is_an_error_too(tmp_path: Path) -> None:
    code = """
    import os, resource
    from isthmus.connectors.file import FileConnector
    from isthmus.errors import FullError
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    c = FileConnector("files")
    for put in (c.put, lambda data: c.put_at(c.reserve(), data)):
        try:
            put(bytes(200_000))
        except FullError as error:
            assert "200000" in str(error)
        else:
            raise AssertionError("no error")
    assert not os.listdir("files")
    assert len(c.get(c.put(bytes(90_000)))) == 90_000
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, check=True)


def test_memory_too_full_to_open_a_name_in_is_said(run_small: RunSmall) -> None:
    """Not one page is left; the attempt leaves neither descriptor nor folder."""
    run_small(
        COUNT
        + """
from isthmus.testing.leaks import no_leaks

with open("/dev/shm/ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
with no_leaks():
    try:
        SharedMemoryConnector("x")
    except FullError as error:
        assert "ISTHMUS_SHM_DIR" in str(error) and "/dev/shm" in str(error), str(error)
    else:
        raise AssertionError("nothing was raised")
os.unlink("/dev/shm/ballast")
with SharedMemoryConnector("x") as c:
    assert c.get(c.put(b"here")) == b"here"
    c.clear()
""",
        shm="1m",
    )
