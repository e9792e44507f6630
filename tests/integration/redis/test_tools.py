"""Figure 2.6 of the dissertation, and `isthmus store`, over a Redis server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from integration.redis.conftest import Open
from isthmus.bench.records import read_records
from isthmus.testing.peer import Peer
from isthmus.testing.servers import RedisServer

FIGURE_2_6 = """
[engine.filter]
name = "object-size"
min_size = 1000
max_size = 1000000

[engine.transformer]
name = "proxystore"

[engine.transformer.connector]
kind = "redis"
options = {{ hostname = "localhost", port = {port}}}
"""


def isthmus(*command: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "isthmus", *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_figure_2_6_proxies_over_redis(
    open_redis: Open, server: RedisServer, tmp_path: Path
) -> None:
    other = open_redis(prefix="isthmus").put(b"not the benchmark's")
    (tmp_path / "figure.toml").write_text(FIGURE_2_6.format(port=server.port))
    isthmus(
        "bench", "run", "--config", "figure.toml", "--app", "cholesky", "--app.matrix-size", "100",
        "--app.block-size", "25", "--engine.executor", "process", "--run.dir-format", "here",
        cwd=tmp_path,
    )  # fmt: skip
    records = list(read_records(tmp_path / "here" / "tasks.jsonl"))
    assert len(records) == 20
    assert "redis" in (tmp_path / "here" / "config.toml").read_text()
    # It cleaned up after itself, and touched nobody else's.
    assert [info.key for info in open_redis(prefix="isthmus").list()] == [other]


def test_the_command_line_lists_and_frees(
    open_redis: Open, server: RedisServer, tmp_path: Path
) -> None:
    connector = open_redis()
    key = connector.put(bytes(5_000_000))
    with Peer(connector) as peer:
        theirs = peer.call(_put)
        peer.kill()
    where = ("--kind", "redis", "--option", "hostname=127.0.0.1", "--option", f"port={server.port}")
    where += ("--option", f"prefix={connector.config()['prefix']}")
    (space,) = json.loads(isthmus("store", "ls", *where, "--json", cwd=tmp_path))
    assert (space["objects"], space["bytes"]) == (2, 5_001_000)
    assert space["bytes_of_the_dead"] == 1_000
    assert connector.lease(key, 600)
    (space,) = json.loads(isthmus("store", "ls", *where, "--json", "--objects", cwd=tmp_path))
    assert (space["leased"], space["overdue"]) == (1, 0)
    (leased,) = (o for o in space["contents"] if o["until"] is not None)
    assert leased["bytes"] == 5_000_000
    assert "in 9 min" in isthmus("store", "ls", *where, "--objects", cwd=tmp_path)
    isthmus("store", "gc", "--dead", *where, cwd=tmp_path)
    assert connector.exists(key)
    assert not connector.exists(theirs)


def _put(connector: object) -> object:
    return connector.put(bytes(1_000))  # type: ignore[attr-defined]
