"""What files beneath connectors are named, how they come into being, and how they are read."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from isthmus.connectors import unfinished
from isthmus.connectors.file import FileConnector, FileKey
from isthmus.connectors.mapping import map_private, read
from isthmus.connectors.naming import (
    fresh_name,
    host_id,
    is_name,
    is_unfinished,
    made_here,
    owner,
)
from isthmus.connectors.polling import poll
from isthmus.connectors.unfinished import Unfinished, try_lock, write_pieces
from isthmus.errors import BrokenError, KeyTypeError, SpecError


def test_a_name_says_who_made_it() -> None:
    here = host_id()
    name = fresh_name(here)
    assert is_name(name)
    assert made_here(name, here)
    assert not made_here(name, host_id("elsewhere"))
    assert owner(name, here).endswith(f":{os.getpid()}")
    assert owner(name, "00000000").startswith(here)
    assert len({fresh_name(here) for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "name",
    ["", "..", "../x", "a/b", f"{'0' * 8}-1-{'0' * 11}", f"{'0' * 8}-1-{'0' * 12}\n", None, 3],
)
def test_what_is_no_name(name: object) -> None:
    assert not is_name(name)


def test_an_unfinished_file_is_not_an_object(tmp_path: Path) -> None:
    file = Unfinished(str(tmp_path), fresh_name(host_id()))
    (found,) = os.listdir(tmp_path)
    assert is_unfinished(found)
    assert not is_name(found)
    file.discard()
    assert not os.listdir(tmp_path)


def test_a_sweeper_and_a_beginning_writer_agree(tmp_path: Path) -> None:
    """Whatever a sweeper takes before the writer has its lock, the writer begins again."""
    connector = FileConnector(tmp_path)
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            connector.sweep()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        keys = [connector.put(b"x" * 1000) for _ in range(500)]
    finally:
        stop.set()
        sweeper.join()
    assert all(connector.get(key) == b"x" * 1000 for key in keys)
    connector.clear()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("lease", [None, 600.0])
@pytest.mark.parametrize("method", ["put", "put_at"])
def test_a_sweeper_between_two_locks_of_a_writer_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, lease: float | None
) -> None:
    data = bytes(range(256)) * 10_000
    with FileConnector(tmp_path) as connector, FileConnector(tmp_path) as sweeper:
        lock = unfinished.Unfinished.open_to_readers
        sweeps = [2_560_000, 2_560_000]

        def interrupted(file: Unfinished) -> None:
            if sweeps:
                fcntl.flock(file.fd, fcntl.LOCK_UN)  # as the kernel does, on the way to the other
                assert sweeper.sweep() == sweeps.pop(0)
            lock(file)

        monkeypatch.setattr(unfinished.Unfinished, "open_to_readers", interrupted)
        if method == "put":
            key = connector.put(data, lease=lease)
        else:
            key = connector.reserve()
            assert connector.put_at(key, data, lease=lease) is True
        assert connector.get(key) == data
        assert (connector.stat(key).until is None) is (lease is None)  # type: ignore[union-attr]
        connector.sweep()
        assert connector.get(key) == data


def test_more_pieces_than_one_call_takes(tmp_path: Path) -> None:
    parts = [bytes([i % 251]) * (i % 7) for i in range(5000)]
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    end = write_pieces(fd, parts, 3)
    os.close(fd)
    assert (tmp_path / "file").read_bytes() == bytes(3) + b"".join(parts)
    assert end == 3 + sum(map(len, parts))


def test_a_file_shorter_than_it_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        assert read(fd, 1, 3) == b"234"
        with pytest.raises(BrokenError, match="5 of 9"):
            read(fd, 0, 9)
        view = map_private(fd, 5)
        assert isinstance(view, memoryview)
        view[0] = 0
        assert read(fd, 0, 5) == b"12345"
    finally:
        os.close(fd)


def test_a_lock_is_seen_by_others(tmp_path: Path) -> None:
    fds = [os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT) for _ in range(2)]
    assert try_lock(fds[0]) is True
    assert try_lock(fds[1]) is False
    assert try_lock(fds[1], shared=True) is False
    os.close(fds[0])
    assert try_lock(fds[1]) is True
    os.close(fds[1])


def test_polling_looks_at_once_and_gives_up_in_time() -> None:
    looks: list[int] = []
    assert poll(lambda: bool(looks.append(1)) or len(looks) > 3, None)
    assert len(looks) == 4
    assert not poll(lambda: False, 0)
    assert not poll(lambda: False, -1)
    assert not poll(lambda: False, 0.002)


def test_a_relative_folder_becomes_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with FileConnector("here") as connector:
        assert connector.config() == {"store_dir": str(tmp_path / "here")}
        key = connector.put(b"x")
        monkeypatch.chdir("/")
        assert connector.get(key) == b"x"


def test_large_files_are_mapped_unless_told_otherwise(tmp_path: Path) -> None:
    data = bytes(1_000_000)
    with FileConnector(tmp_path) as mapping, FileConnector(tmp_path, map_files=False) as reading:
        key = mapping.put(data)
        assert type(mapping.get(key)) is memoryview
        assert type(reading.get(key)) is bytearray
        assert mapping.get(mapping.put(b"small")) == b"small"


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".hidden.part").write_text("mine")
    with FileConnector(tmp_path) as connector:
        connector.put(b"x")
        assert connector.clear() == 1
        assert connector.sweep() == 0
    assert sorted(os.listdir(tmp_path)) == [".hidden.part", "notes.txt"]


def test_another_hosts_writer_is_given_an_hour(tmp_path: Path) -> None:
    path = tmp_path / f".{fresh_name('0badcafe')}.{'0' * 8}.part"
    path.write_bytes(bytes(100))
    with FileConnector(tmp_path) as connector:
        assert connector.sweep() == 0
        an_hour_ago = path.stat().st_mtime - 3700
        os.utime(path, (an_hour_ago, an_hour_ago))
        assert connector.sweep() == 100
    assert not os.listdir(tmp_path)


def test_a_key_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.obj").write_text("mine")
    with FileConnector(tmp_path / "objects") as connector:
        for operation in (connector.get, connector.evict, connector.exists, connector.stat):
            with pytest.raises(KeyTypeError):
                operation(FileKey("../secret"))
    assert (tmp_path / "secret.obj").exists()


@pytest.mark.parametrize("folder", ["", "~nobody-of-this-name/objects"])
def test_what_names_no_folder(folder: str) -> None:
    with pytest.raises(SpecError, match="names no folder"):
        FileConnector(folder)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokenError, match="file"):
        FileConnector(tmp_path / "file" / "folder")


def test_a_folder_that_went_away(tmp_path: Path) -> None:
    connector = FileConnector(tmp_path / "objects")
    key = connector.put(b"x")
    connector.clear()
    (tmp_path / "objects").rmdir()
    assert connector.get(key) is None
    with pytest.raises(BrokenError, match="objects"):
        connector.put(b"x")


def test_a_file_that_cannot_be_published_is_gone(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    file = Unfinished(str(tmp_path), fresh_name("0badcafe"))
    with pytest.raises(IsADirectoryError):
        file.publish(str(tmp_path / "place"))  # and the leak check finds no open descriptor
    assert os.listdir(tmp_path) == ["place"]
