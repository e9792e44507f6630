"""Two nodes for a test; skipped where network namespaces cannot be made."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.nodes.namespaces import Node, Pair


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Pair]:
    for program in ("unshare", "nsenter", "ip", "mount", "hostname"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt-get install util-linux iproute2 mount hostname")
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    with contextlib.ExitStack() as stack:
        made: list[Node] = []
        for name, address in (("node-a", "10.231.0.1"), ("node-b", "10.231.0.2")):
            made.append(Node(name, address, tmp_path))
            stack.callback(made[-1].close)
        a, b = made
        a.command(*"ip link add fast0 type veth peer name fast0 netns".split(), str(b.pid))
        for node in made:
            node.command("ip", "address", "add", f"{node.address}/30", "dev", "fast0")
            node.command("ip", "link", "set", "fast0", "up")
        yield Pair(a, b)
