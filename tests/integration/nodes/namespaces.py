"""Two network namespaces as two nodes: host names, /dev/shm and boot of their own, and a cable between."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest

PATIENCE = 60.0


class Node:
    """A network namespace with a host name; also its own mounts, so another boot and another /dev/shm.

    What they have in common is what nodes of a cluster have: users, and the files elsewhere.
    """

    def __init__(self, name: str, address: str, folder: Path) -> None:
        self.name = name
        self.address = address
        # Lives for the namespaces: when it goes and nobody else is in them, so do they and the cable.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--uts", "--mount", "sh", "-c", "echo up; exec sleep infinity"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self.close()
            pytest.skip("needs the right to make network namespaces (root)")
        self.within = ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount"]
        boot = folder / f"boot-{name}"
        boot.write_text(f"{uuid.uuid4()}\n")
        self.command("hostname", name)
        self.command("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", "/dev/shm")
        self.command("mount", "--bind", str(boot), "/proc/sys/kernel/random/boot_id")
        self.command("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        return self._holder.pid

    def command(self, *command: str) -> str:
        """Run a command on the node."""
        return subprocess.run(
            [*self.within, *command], check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout

    def start(self, code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start Python on the node."""
        environment = {**os.environ, **variables}
        environment.pop("ISTHMUS_SHM_DIR")  # the tests': a node has its own memory
        return subprocess.Popen(
            [*self.within, sys.executable, "-c", code, *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, *arguments: str, **variables: str) -> str:
        """Run Python on the node; return what it printed."""
        process = self.start(code, *arguments, **variables)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, err
        return out

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


class Pair(NamedTuple):
    a: Node
    b: Node
