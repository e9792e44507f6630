"""`isthmus store ls` and `gc`, over files; the producers are real processes that have ended, or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.cli import main
from isthmus.connectors.file import FileConnector

PRODUCE = """
import sys
from isthmus.connectors.file import FileConnector
connector = FileConnector(sys.argv[1])
for size in map(int, sys.argv[2:]):
    connector.put(bytes(size))
"""

LEASED = """
import os, sys, time
from isthmus.connectors.file import FileConnector
from isthmus.connectors.leases import upkeep
connector = FileConnector(sys.argv[1])
with upkeep.paused():
    connector.put(bytes(10))
    connector.put(bytes(300), lease=3600)
    connector.put(bytes(2000), lease=0.01)
    time.sleep(0.01)
    os._exit(0)
"""

KILLED = """
import os, signal, sys
from isthmus.connectors.file import FileConnector
connector = FileConnector(sys.argv[1])
class Killer(bytes):
    pass
from isthmus.connectors.unfinished import Unfinished
from isthmus.connectors.naming import fresh_name, host_id
unfinished = Unfinished(sys.argv[1], fresh_name(host_id()))
os.write(unfinished.fd, bytes(1000))
os.kill(os.getpid(), signal.SIGKILL)
"""


def produce(folder: Path, *sizes: int) -> None:
    subprocess.run([sys.executable, "-c", PRODUCE, str(folder), *map(str, sizes)], check=True)


def store(*arguments: str, folder: Path) -> int:
    return main(["store", *arguments, "--kind", "file", "--option", f"store_dir={folder}"])


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    assert store("ls", "--json", "--objects", folder=folder) == 0
    [entry] = json.loads(capsys.readouterr().out)
    assert isinstance(entry, dict)
    return entry


def test_ls_tells_objects_bytes_owners_and_ages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(tmp_path, 1000, 2000)
    with FileConnector(tmp_path) as mine:
        mine.put(bytes(500))
    entry = listed(tmp_path, capsys)
    assert (entry["kind"], entry["objects"], entry["bytes"]) == ("file", 3, 3500)
    assert entry["bytes_of_the_dead"] == 3000
    contents = entry["contents"]
    assert isinstance(contents, list)
    assert {o["alive"] for o in contents if o["owner"].endswith(f":{os.getpid()}")} == {True}
    assert sorted(o["bytes"] for o in contents if o["alive"] is False) == [1000, 2000]
    assert all(0 <= o["age_seconds"] < 100 for o in contents)
    assert store("ls", folder=tmp_path) == 0
    assert "3.50 kB" in capsys.readouterr().out
    assert store("ls", "--objects", folder=tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.count("ended") == 2
    assert "runs" in shown


def test_ls_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store("ls", "--objects", folder=tmp_path) == 0
    assert capsys.readouterr().out == "nothing is stored\n"


def test_gc_takes_debris_and_leaves_objects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(tmp_path, 1000)
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)])
    assert died.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2
    assert store("gc", folder=tmp_path) == 0
    assert "freed 1.00 kB of unfinished writes" in capsys.readouterr().out
    assert listed(tmp_path, capsys)["bytes"] == 1000
    assert len(list(tmp_path.iterdir())) == 1


def test_gc_of_the_dead_asks_nothing_and_spares_the_living(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(tmp_path, 1000, 2000)
    with FileConnector(tmp_path) as mine:
        mine.put(bytes(500))
    assert store("gc", "--dead", "--dry-run", folder=tmp_path) == 0
    assert "would free 2 objects of ended producers, 3.00 kB" in capsys.readouterr().out
    assert listed(tmp_path, capsys)["objects"] == 3
    assert store("gc", "--dead", "--older-than", "2h", "--json", folder=tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["spaces"][0]["objects"] == 0
    assert store("gc", "--dead", "--json", folder=tmp_path) == 0
    [freed] = json.loads(capsys.readouterr().out)["spaces"]
    assert (freed["objects"], freed["object_bytes"]) == (2, 3000)
    assert listed(tmp_path, capsys)["bytes"] == 500


def test_leases_are_told_and_what_is_overdue_is_freed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run([sys.executable, "-c", LEASED, str(tmp_path)], check=True)
    contents = listed(tmp_path, capsys)["contents"]
    assert isinstance(contents, list)
    assert {o["bytes"]: o["overdue"] for o in contents} == {10: False, 2000: True, 300: False}
    assert {o["bytes"] for o in contents if o["until"] is None} == {10}
    assert store("ls", folder=tmp_path) == 0
    assert "2, 1 overdue" in capsys.readouterr().out
    assert store("ls", "--objects", folder=tmp_path) == 0
    shown = capsys.readouterr().out
    assert "overdue 0 s" in shown
    assert "in 1 h" in shown or "in 59 min" in shown
    assert store("gc", "--dry-run", folder=tmp_path) == 0
    assert "would free 1 objects whose lease had run out, 2.00 kB" in capsys.readouterr().out
    assert listed(tmp_path, capsys)["objects"] == 3
    assert store("gc", folder=tmp_path) == 0
    freed = capsys.readouterr().out
    assert "freed 1 objects whose lease had run out, 2.00 kB, 0 B of unfinished writes" in freed
    assert listed(tmp_path, capsys)["bytes"] == 310


def test_older_than_counts_from_when_it_was_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    produce(tmp_path, 1000, 2000)
    old = next(p for p in tmp_path.iterdir() if p.stat().st_size == 2000)
    os.utime(old, (old.stat().st_atime, old.stat().st_mtime - 7201))
    assert store("gc", "--dead", "--older-than", "2h", folder=tmp_path) == 0
    assert "1 objects of ended producers, 2.00 kB" in capsys.readouterr().out
    assert listed(tmp_path, capsys)["bytes"] == 1000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "ls|gc"),
        (["ls", "--kind", "flie"], "did you mean 'file'"),
        (["ls", "--kind", "file"], "store_dir"),
        (["ls", "--kind", "file", "--option", "store_dir"], "NAME=VALUE"),
        (["ls", "--kind", "file", "--option", "store_dir=/no/such/place"], "/no/such/place"),
        (["ls", "--kind", "file", "--option", "store_dir=/tmp", "--option", "x=1"], "x"),
        (["gc", "--older-than", "soon"], "no duration"),
        (["gc", "--kind", "memory", "--older-than", "2h"], "--dead"),
    ],
)
def test_wrong_requests_say_what_to_do(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["store", *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_every_shared_memory_space_of_this_user_is_listed_and_none_is_made(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from isthmus.connectors.shm import SharedMemoryConnector

    assert main(["store", "ls"]) == 0
    assert capsys.readouterr().out == "nothing is stored\n"
    with SharedMemoryConnector("cli-one") as one, SharedMemoryConnector("cli-two") as two:
        one.put(bytes(2_000_000))
        two.put(b"small")
        assert main(["store", "ls", "--json"]) == 0
        found = {e["name"]: e for e in json.loads(capsys.readouterr().out)}
        assert found.keys() == {"cli-one", "cli-two"}
        assert found["cli-one"]["bytes"] == 2_000_000
        assert found["cli-two"]["objects"] == 1
        assert main(["store", "ls", "--option", "name=cli-two"]) == 0
        assert "cli-one" not in capsys.readouterr().out
        one.clear()
        two.clear()


def test_shared_memory_of_the_dead_is_freed(capsys: pytest.CaptureFixture[str]) -> None:
    produce = (
        "from isthmus.connectors.shm import SharedMemoryConnector as C\n"
        "c = C('cli-dead'); c.put(bytes(1_500_000)); c.close()"
    )
    subprocess.run([sys.executable, "-c", produce], check=True)
    assert main(["store", "gc"]) == 0
    capsys.readouterr()
    assert main(["store", "gc", "--dead", "--json"]) == 0
    [freed] = json.loads(capsys.readouterr().out)["spaces"]
    assert (freed["name"], freed["objects"], freed["object_bytes"]) == ("cli-dead", 1, 1_500_000)
    assert main(["store", "ls"]) == 0
    assert "cli-dead" not in capsys.readouterr().out
