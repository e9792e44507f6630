"""A proxy made on one node, resolved on another."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import ROOT, blocks
from integration.nodes.namespaces import Pair
from isthmus.connectors import connectors
from isthmus.testing.servers import RedisServer

PRODUCE = """
import pickle, sys
from pathlib import Path
from isthmus.connectors import connectors
from isthmus.store import Store

kind, path, *pairs = sys.argv[1:]
options = dict(pair.split("=", 1) for pair in pairs)
if "port" in options:
    options["port"] = int(options["port"])
with Store("between", connectors.get(kind).from_config(options)) as store:
    Path(path).write_bytes(pickle.dumps([store.proxy("small"), store.proxy(bytes(3_000_000))]))
    print("made", flush=True)
    sys.stdin.read()  # a server of a node's processes stays as long as they do
"""

CONSUME = """
import pickle, socket, sys
from pathlib import Path
from isthmus.errors import ElsewhereError

for proxy in pickle.loads(Path(sys.argv[1]).read_bytes()):
    try:
        print(socket.gethostname(), len(proxy))
    except ElsewhereError as error:
        print(error)
"""


IDENTITY = """
import os, socket
from isthmus.connectors.naming import host_id

print(socket.gethostname(), host_id(), os.stat("/dev/shm").st_dev)
"""


def carry(nodes: Pair, path: Path, kind: str, **options: str) -> list[str]:
    """Make proxies on one node and resolve them on the other; return what that one says."""
    pairs = [f"{name}={value}" for name, value in options.items()]
    producer = nodes.a.start(PRODUCE, kind, str(path), *pairs, LAB_REDIS="open sesame")
    try:
        assert producer.stdout is not None
        if producer.stdout.readline() != "made\n":
            pytest.fail(producer.communicate()[1])
        return nodes.b.run(CONSUME, str(path), LAB_REDIS="open sesame").splitlines()
    finally:
        producer.communicate()


def test_the_nodes_look_like_two_hosts(nodes: Pair) -> None:
    one, two = (node.run(IDENTITY).split() for node in nodes)
    assert (one[0], two[0]) == ("node-a", "node-b")
    assert one[1] != two[1]
    assert one[2] != two[2]


def test_over_redis_it_resolves(nodes: Pair, tmp_path: Path) -> None:
    bind = f"bind {nodes.a.address}"  # on the cable alone, so not without a password
    with RedisServer(bind, "requirepass 'open sesame'", within=nodes.a.within) as server:
        said = carry(
            nodes, tmp_path / "proxies", "redis",
            hostname=nodes.a.address, port=str(server.port), password_env="LAB_REDIS",
        )  # fmt: skip
    assert said == ["node-b 5", "node-b 3000000"]
    assert b"sesame" not in (tmp_path / "proxies").read_bytes()


def test_over_a_shared_file_system_it_resolves(nodes: Pair, tmp_path: Path) -> None:
    said = carry(nodes, tmp_path / "proxies", "file", store_dir=str(tmp_path / "shared"))
    assert said == ["node-b 5", "node-b 3000000"]


def test_over_zeromq_it_resolves(nodes: Pair, tmp_path: Path) -> None:
    if "zmq" not in connectors.kinds():
        pytest.skip("there is no zmq connector here")
    key = tmp_path / "zmq.key"
    key.write_text(secrets.token_hex(32))
    key.chmod(0o600)
    said = carry(nodes, tmp_path / "proxies", "zmq", address="fast0", key=f"file:{key}")
    assert said == ["node-b 5", "node-b 3000000"]


def test_over_shared_memory_it_says_why_not_and_what_to_do(nodes: Pair, tmp_path: Path) -> None:
    said = carry(nodes, tmp_path / "proxies", "shm")
    assert len(said) == 2
    for line in said:
        assert "in the memory of node-a, " in line
        assert "out of reach of" in line
        assert "which is node-b" in line
        assert "use a file connector on a shared file system" in line


def test_a_container_with_little_shared_memory_is_told(nodes: Pair) -> None:
    """A node's /dev/shm here is as small as a container runtime makes it."""
    said = nodes.a.run("from isthmus.cli import main; main(['doctor'])")
    assert "at /dev/shm" in said
    assert "--shm-size" in said


SRUN = """#!/bin/bash
# In place of Slurm's: the command once on each node.
shift
SLURM_PROCID=0 "$@" & SLURM_PROCID=1 nsenter --target {pid} --net --uts --mount --wd="$PWD" "$@" && wait
"""


def test_the_guides_job_script_runs(nodes: Pair, tmp_path: Path) -> None:
    """Slurm is a stand-in; script, Redis, password and network are as the guide has them."""
    if shutil.which("redis-cli") is None:
        pytest.skip("needs redis-cli: apt-get install redis-tools")
    guide = (ROOT / "docs" / "guide" / "clusters.md").read_text()
    for block in blocks(guide):
        if block.marker == "file":
            (tmp_path / block.text).write_text("\n".join(block.code) + "\n")
    srun = tmp_path / "srun"
    srun.write_text(SRUN.format(pid=nodes.b.pid))
    srun.chmod(0o755)
    done = subprocess.run(
        [*nodes.a.within, f"--wd={tmp_path}", "bash", "job.sh"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "4711",
            "FAST_INTERFACE": "fast0",
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("node-b got 499500\n")  # after a line of the server's
