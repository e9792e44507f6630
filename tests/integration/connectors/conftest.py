"""Connectors over storage of a test's own, and real full disks."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.shm import SharedMemoryConnector

Open = Callable[..., SharedMemoryConnector]
RunSmall = Callable[..., None]


@pytest.fixture
def area() -> str:
    """A name of shared memory that nobody else uses."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def open_shm(area: str, tmp_path: Path) -> Iterator[Open]:
    """Open connectors of one area; emptied and closed afterwards."""
    opened: list[SharedMemoryConnector] = []

    def connect(**options: Any) -> SharedMemoryConnector:
        opened.append(SharedMemoryConnector(area, spill_dir=tmp_path / "spill", **options))
        return opened[-1]

    yield connect
    for connector in opened:
        connector.close()
    with SharedMemoryConnector(area) as last:
        last.clear()


@pytest.fixture
def run_small(tmp_path: Path) -> RunSmall:
    """Run code in a fresh interpreter where some folders are tiny file systems in memory.

    The mounts exist in a namespace of that process alone, ``/dev/shm`` too.
    """
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip(
            "this process may not mount: run as root to test with file systems that are full"
        )

    def run(code: str, **mounts: str) -> None:
        steps = ["set -e"]
        for folder, size in mounts.items():
            place = "/dev/shm" if folder == "shm" else str(tmp_path / folder)
            if folder != "shm":
                os.makedirs(place, exist_ok=True)
            steps.append(f"mount -t tmpfs -o size={size} tmpfs {shlex.quote(place)}")
        steps.append('exec "$0" -W error -c "$1"')
        done = subprocess.run(
            [
                "unshare",
                "--mount",
                "sh",
                "-c",
                "\n".join(steps),
                sys.executable,
                textwrap.dedent(code),
            ],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if k != "ISTHMUS_SHM_DIR"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr

    return run
