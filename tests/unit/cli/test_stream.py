"""`isthmus stream`: a topic is watched without a change to it, and sent to."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.broker.sqlite import SQLiteBroker
from isthmus.cli import main
from isthmus.connectors.file import FileConnector
from isthmus.net.bridge import bridge
from isthmus.store import Store
from isthmus.stream import StreamProducer
from isthmus.stream.log import LogChannel


@pytest.fixture(autouse=True)
def stop_bridge(leak_check: None) -> Iterator[None]:
    yield
    bridge.stop()


def log(path: Path) -> list[str]:
    return [
        "--channel",
        "log",
        "--option",
        "broker=sqlite",
        "--option",
        f'options={{"path":"{path}"}}',
    ]


def test_lines_are_sent_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = log(tmp_path / "logs.db")
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert main(["stream", "send", "t", *where, "--metadata", '{"a": 1}']) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("three\n"))
    assert main(["stream", "send", "t", *where, "--end"]) == 0
    assert main(["stream", "tail", "t", *where, "--objects"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["'one'", "'two'", "'three'"]
    assert lines[0].startswith("t  ")
    assert '{"a": 1}' in lines[0]
    assert main(["stream", "tail", "t", *where, "--json", "--count", "1"]) == 0
    entry = json.loads(capsys.readouterr().out)
    assert (entry["topic"], entry["number"], entry["metadata"]) == ("t", 0, {"a": 1})
    assert "object" not in entry


def test_watching_deletes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    channel = LogChannel(SQLiteBroker(tmp_path / "logs.db"))
    with Store(None, FileConnector(str(tmp_path / "objects"))) as store:
        with StreamProducer(channel.publisher(), store, inline_bytes=0) as producer:
            producer.send("t", [1, 2])
            producer.close(end=False)
        tail = ["stream", "tail", "t", *log(tmp_path / "logs.db"), "--timeout", "0.2s"]
        assert main([*tail, "--objects"]) == 0
        assert main(tail) == 0
        assert len(list(store.connector.list())) == 1  # type: ignore[attr-defined]
        first, second = capsys.readouterr().out.splitlines()
        assert first.endswith("[1, 2]")
        assert "[1, 2]" not in second
        store.clear()
        assert main([*tail, "--objects"]) == 0
        assert "holds no object" in capsys.readouterr().out
        assert main([*tail, "--new"]) == 0
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["tail", "t", "--channel", "redis-queue"], "takes items away"),
        (["tail", "t", "--channel", "memory"], "takes items away"),
        (["send", "t", "--channel", "memory"], "ends with this process"),
        (["tail", "t", "--channel", "rediss"], "unknown stream channel 'rediss'"),
        (["tail", "t", "--channel", "log"], "missing required field `broker`"),
        (["tail", "t", "--channel", "log", "--option", "broker"], "is not NAME=VALUE"),
        (["tail", "a b", "--channel", "log", "--option", "broker=memory"], "ASCII letters"),
        (["tail"], "--help"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stream", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
