"""SQLite: killed processes, full disks, files that are not ours, forks, doorbells of the dead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from integration.broker.conftest import everything
from isthmus.broker.sqlite import SQLiteBroker, engine
from isthmus.broker.sqlite.database import begin, connect
from isthmus.broker.sqlite.doorbell import Listener, Ringer
from isthmus.errors import BrokenError, FullError, SpecError
from isthmus.testing.broker_contract import SOON, in_loop

APPENDS = """
    import asyncio, sys
    from isthmus.broker.sqlite import SQLiteBroker

    async def send(log, sender):
        call = 0
        while True:
            call += 1
            await log.append([f"{sender} {call} {item}".encode() for item in range(3)])
            print(sender, call, flush=True)

    async def main(path):
        async with SQLiteBroker(path) as broker:
            log = await broker.open("a")
            await asyncio.gather(*(send(log, n) for n in range(8)))

    asyncio.run(main(sys.argv[1]))
"""


def appending(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(APPENDS), path],
        stdout=subprocess.PIPE,
        text=True,
    )


@in_loop
async def test_a_killed_process_leaves_whole_calls_and_all_that_returned(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    for round_ in range(1, 4):
        returned = set()
        with appending(path) as process:
            assert process.stdout is not None
            for _ in range(200 * round_):
                returned.add(tuple(map(int, process.stdout.readline().split())))
            process.kill()
            rest = process.stdout.read()
        returned |= {
            tuple(map(int, line.split())) for line in rest.splitlines(True) if "\n" in line
        }
        async with SQLiteBroker(path) as broker:
            log = await broker.open("a")
            found = [tuple(map(int, data.split())) for data in await everything(log)]
            calls = [found[n : n + 3] for n in range(0, len(found), 3)]
            assert all([row[2] for row in call] == [0, 1, 2] for call in calls)
            assert all(len({row[:2] for row in call}) == 1 for call in calls)
            assert {call[0][:2] for call in calls} >= returned
            assert len({call[0][:2] for call in calls}) == len(calls)
            await log.trim((await log.stat()).last)


@in_loop
async def test_a_full_disk_stores_nothing_and_recovers(tmp_path: Path) -> None:
    async with SQLiteBroker(tmp_path / "logs.db") as broker:
        log = await broker.open("a")
        await broker.engine().write(lambda t: t.execute("PRAGMA max_page_count=300").fetchall())
        with pytest.raises(FullError, match="free space on its disk, or trim"):
            await asyncio.gather(*(log.append([b"x" * 10_000] * 5) for _ in range(30)))
        with pytest.raises(FullError):
            await log.append([b"x" * 10_000] * 5)
        stored = (await log.stat()).records
        assert 20 < stored < 120
        assert stored % 5 == 0
        assert (await log.stat())[:2] == (stored, stored * 10_000)
        assert len(await everything(log)) == stored
        # Together with one that is too large, small ones still fit.
        results = await asyncio.gather(
            log.append([b"y" * 1_000_000]), log.append([b"small"]), return_exceptions=True
        )
        assert isinstance(results[0], FullError)
        assert results[1] == [stored + 1]
        await log.trim((await log.read(limit=20))[-1].position)
        await log.append([b"x" * 10_000] * 5)


@pytest.mark.parametrize(
    ("content", "match"),
    [(b"something else " * 100, "no SQLite file"), (b"SQLite format 3\0" + bytes(5000), "logs.db")],
)
@in_loop
async def test_a_file_that_is_none_of_ours_is_refused(
    tmp_path: Path, content: bytes, match: str
) -> None:
    path = tmp_path / "logs.db"
    path.write_bytes(content)
    async with SQLiteBroker(path) as broker:
        for _ in range(2):
            with pytest.raises(BrokenError, match=match) as caught:
                await broker.open("a")
            assert str(path) in str(caught.value)
    assert path.read_bytes() == content
    path.unlink()
    async with SQLiteBroker(path) as broker:
        await broker.open("a")


@in_loop
async def test_another_programs_database_and_another_version_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE logs (x)")
    theirs.close()
    async with SQLiteBroker(path) as broker:
        with pytest.raises(BrokenError, match="another program's") as caught:
            await broker.open("a")
        assert str(caught.value) == f"{path}: it is another program's database; name another file"
    path = tmp_path / "newer.db"
    async with SQLiteBroker(path) as broker:
        await broker.open("a")
    with sqlite3.connect(path) as newer:
        newer.execute("PRAGMA user_version=99")
    newer.close()
    async with SQLiteBroker(path) as broker:
        with pytest.raises(BrokenError, match="version 99"):
            await broker.open("a")


@in_loop
async def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    async with SQLiteBroker(path) as broker:
        await (await broker.open("a")).append([b"x" * 3000] * 100)
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xff" * 4096 * 60)
    async with SQLiteBroker(path) as broker:
        with pytest.raises(BrokenError, match="damaged"):
            await everything(await broker.open("a"))


@in_loop
async def test_a_file_that_is_deleted_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    async with SQLiteBroker(path) as broker, SQLiteBroker(path) as sharing:
        log, _ = await broker.open("a"), await sharing.open("a")
        await log.append([b"x"])
        for file in tmp_path.glob("logs.db*"):
            file.unlink()
        uses = (lambda: log.append([b"y"]), log.read, log.stat, lambda: sharing.open("a"))
        for use in uses:
            with pytest.raises(BrokenError, match="deleted or replaced"):
                await use()
        async with SQLiteBroker(path) as new:
            assert await everything(await new.open("another")) == []
            # A log of the old file is none of the new one, though both have the number 1.
            with pytest.raises(BrokenError, match="deleted or replaced"):
                await log.append([b"y"])


def test_what_is_underway_at_exit_can_close_its_broker(tmp_path: Path) -> None:
    code = """
        import asyncio, sys, threading
        from isthmus.broker.sqlite import SQLiteBroker
        from isthmus.net.bridge import bridge

        async def last_words(path, begun):
            async with SQLiteBroker(path) as broker:
                log = await broker.open("a")
                begun.set()
                while threading.main_thread().is_alive():
                    await asyncio.sleep(0.01)
                await log.append([b"x"])
            print("closed")

        begun = threading.Event()
        bridge.start(last_words(sys.argv[1], begun))
        begun.wait()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path / "logs.db"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("closed\n", "")


@in_loop
async def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with SQLiteBroker(tmp_path / "file" / "logs.db") as broker:
        with pytest.raises(BrokenError, match="folder"):
            await broker.open("a")
    for arguments in (("",), (tmp_path / "x", 0)):
        with pytest.raises(SpecError, match="path"):
            SQLiteBroker(*arguments)


@in_loop
async def test_the_write_ahead_log_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    async with SQLiteBroker(path) as broker:
        log = await broker.open("a")
        largest = 0
        for _ in range(25):
            positions = await log.append([bytes(1_000_000)] * 8)
            await log.trim(positions[-1])
            largest = max(largest, os.path.getsize(f"{path}-wal"))
        assert largest < 150 << 20
        assert path.stat().st_size < 100 << 20  # trimmed room is used again


@in_loop
async def test_another_process_that_has_the_lock_too_long_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    async with SQLiteBroker(path, timeout=0.2) as broker:
        log = await broker.open("a")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BrokenError, match="holds its lock"):
            await log.append([b"x"])
        other.close()
        assert await log.append([b"y"]) == [1]


@in_loop
async def test_all_who_want_the_lock_in_vain_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "logs.db"
    tries = []

    def counted(database: sqlite3.Connection, timeout: float) -> None:
        tries.append(timeout)
        begin(database, timeout)

    async with SQLiteBroker(path, timeout=0.1) as broker:
        log = await broker.open("a")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(engine, "begin", counted)
            results = await asyncio.gather(
                *(log.append([b"x"]) for _ in range(50)), return_exceptions=True
            )
        assert all(isinstance(r, BrokenError) and "holds its lock" in str(r) for r in results)
        assert len(tries) <= 2  # those that were there when the first was taken up, and all others
        assert await log.append([b"y"]) == [1]


@in_loop
async def test_a_path_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    async with SQLiteBroker(f"{tmp_path}/a\0b") as broker:
        with pytest.raises(BrokenError, match="null"):
            await broker.open("a")


def test_whoever_makes_the_file_at_the_same_time_finds_it_to_be_ours(tmp_path: Path) -> None:
    together = threading.Barrier(6)

    def make(path: str) -> None:
        together.wait()
        connect(path, 30, create=True).close()

    for n in range(15):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(make, [f"{tmp_path}/{n}.db"] * 6))


def test_a_forked_child_has_an_engine_of_its_own(tmp_path: Path) -> None:
    broker = SQLiteBroker(tmp_path / "logs.db")

    async def use(what: bytes) -> list[bytes]:
        log = await broker.open("a")
        await log.wait(0, 0)
        await log.append([what])
        return await everything(log)

    async def leave() -> None:
        await broker.aclose()

    assert asyncio.run(use(b"parent")) == [b"parent"]
    pid = os.fork()
    if not pid:
        status = 1
        try:
            assert asyncio.run(use(b"child")) == [b"parent", b"child"]
            asyncio.run(leave())
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert asyncio.run(use(b"again")) == [b"parent", b"child", b"again"]
    asyncio.run(leave())
    assert not os.path.exists(tmp_path / "logs.db-bells")


def test_a_dead_listener_is_removed_and_a_slow_one_keeps_nobody(tmp_path: Path) -> None:
    folder = os.fspath(tmp_path / "bells")
    one, two, ringer = Listener(folder), Listener(folder), Ringer(folder)
    ringer.ring([7, 8], own=None)
    assert next(one.rings()) == {7, 8}
    for _ in range(10_000):
        ringer.ring([9], own=two.name)
    one.forget()  # as a killed process's: closed, and its name stays
    ringer.ring([7], own=None)
    assert os.listdir(folder) == [two.name]
    two.stop()
    two.close()
    ringer.ring([7], own=None)
    ringer.close()
    assert not os.path.exists(folder)


@in_loop
async def test_another_process_rings_and_nobody_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_LOOK", 1e6)
    path = tmp_path / "logs.db"
    code = """
        import asyncio, sys
        from isthmus.broker.sqlite import SQLiteBroker
        async def main(path):
            async with SQLiteBroker(path) as broker:
                log = await broker.open("a")
                for line in sys.stdin:
                    await log.append([b"x"])
        asyncio.run(main(sys.argv[1]))
    """
    async with SQLiteBroker(path) as broker:
        log = await broker.open("a")
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), path], stdin=subprocess.PIPE
        ) as other:
            assert other.stdin is not None
            for n in range(6):
                # Without a timeout, at whose end it would look once more.
                waiting = asyncio.ensure_future(log.wait(n))
                await asyncio.sleep(0)
                await log.stat()  # answered after it has looked
                other.stdin.write(b"\n")
                other.stdin.flush()
                async with asyncio.timeout(SOON):
                    assert await waiting
            other.stdin.close()


@in_loop
async def test_a_consumer_that_was_killed_loses_what_it_took(tmp_path: Path) -> None:
    path = tmp_path / "logs.db"
    code = """
        import asyncio, sys
        from isthmus.broker.sqlite import SQLiteBroker
        async def main(path):
            async with SQLiteBroker(path) as broker:
                group = await (await broker.open("a")).group("g")
                print(len(await group.read("dies")), flush=True)
                await asyncio.sleep(100)
        asyncio.run(main(sys.argv[1]))
    """
    async with SQLiteBroker(path) as broker:
        log = await broker.open("a")
        positions = await log.append([b"1", b"2"])
        group = await log.group("g", ack_wait=0.3)
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), path], stdout=subprocess.PIPE, text=True
        ) as consumer:
            assert consumer.stdout is not None
            assert consumer.stdout.readline() == "2\n"
            consumer.send_signal(signal.SIGKILL)
        found = await group.read("lives", timeout=30)
        assert found == [(positions[0], b"1", 2), (positions[1], b"2", 2)]
