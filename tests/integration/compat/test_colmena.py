"""Colmena and Parsl, unmodified, with isthmus in the place of a ProxyStore that is not installed.

Runs in the environment that `scripts/setup-colmena` makes: `scripts/test-all` does both.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.testing.servers import RedisServer

pytestmark = [
    pytest.mark.extras,
    pytest.mark.skipif(
        importlib.util.find_spec("colmena") is None,
        reason="Colmena is not installed: scripts/setup-colmena makes an environment that has it",
    ),
]
ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "colmena_redis.py"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def run(*arguments: object, cwd: Path, aliased: bool = True) -> str:
    bin_dir = os.path.dirname(sys.executable)  # Parsl looks for its workers' program on the path
    environment = {**os.environ, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}"}
    if aliased:
        environment["ISTHMUS_COMPAT"] = "proxystore"
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_proxystore_is_absent() -> None:
    assert importlib.util.find_spec("proxystore") is None


@pytest.mark.parametrize(
    ("store", "executor", "started"),
    [
        ("redis", "htex", ["variable"]),
        ("files", "htex", ["command"]),
        ("redis", "threads", ["variable"]),
    ],
)
def test_an_application_gets_right_results_through_the_store(
    server: RedisServer, tmp_path: Path, store: str, executor: str, started: list[str]
) -> None:
    import redis

    sizes, tasks = [10_000, 100_000, 1_000_000], 3
    program = [EXAMPLE, "--redis", f"127.0.0.1:{server.port}", "--store", store]
    options = ["--executor", executor, "--tasks", tasks, "--sizes", *sizes]
    by_command = started == ["command"]
    before = ["-m", "isthmus.compat", "--alias", "proxystore"] if by_command else []
    found: dict[str, Any] = json.loads(
        run(*before, *program, *options, cwd=tmp_path, aliased=not by_command)
    )
    assert found["failures"] == []
    assert found["proxied_inputs"] == found["proxied_results"] == tasks * len(sizes)
    assert len(found["milliseconds"]) == len(sizes)
    with redis.Redis(port=server.port) as client:
        left = client.keys("isthmus*")
    assert not left, "inputs and results are evicted by their only reader"


def test_small_objects_travel_by_value(server: RedisServer, tmp_path: Path) -> None:
    program = [EXAMPLE, "--redis", f"127.0.0.1:{server.port}", "--executor", "threads"]
    found = json.loads(run(*program, "--sizes", 80, "--tasks", 2, cwd=tmp_path))
    assert (found["failures"], found["proxied_inputs"], found["proxied_results"]) == ([], 0, 0)


@pytest.mark.parametrize("suite", ["tests", "task_server/tests/test_parsl.py"])
def test_its_own_tests_pass(tmp_path: Path, suite: str) -> None:
    spec = importlib.util.find_spec("colmena")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / suite
    output = run(
        *("-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider", path), cwd=tmp_path
    )
    assert " passed" in output


def test_parsls_hook_sends_large_arguments_through_the_store(tmp_path: Path) -> None:
    script = Path(__file__).with_name("hooked.py")
    assert run(script, tmp_path, cwd=tmp_path).splitlines()[-1] == "(True, 100000)"
