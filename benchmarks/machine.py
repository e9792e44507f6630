"""The facts about a machine without which a measured figure says little."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.peers import COLMENA_PYTHON, PEER_PYTHON, ROOT

OURS = ("numpy", "pandas", "cloudpickle", "msgspec", "torch", "polars", "pyarrow", "distributed")
PEERS = {PEER_PYTHON: ("proxystore", "ray"), COLMENA_PYTHON: ("colmena", "parsl")}


def facts() -> dict[str, Any]:
    """Return processor, kernel, memory, load, and the versions of everything compared."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": [round(x, 2) for x in os.getloadavg()],
        "versions": {name: v for name in OURS if (v := _version(name))},
        "peers": {k: v for where in PEERS for k, v in _peer_versions(where).items()},
        "commit": _commit(),
    }


def _processor() -> str:
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _peer_versions(python: Path) -> dict[str, str]:
    if not python.exists():
        return {}
    names = PEERS[python]
    code = f"from importlib.metadata import version\nfor n in {names!r}: print(n, version(n))"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return dict(line.split() for line in run.stdout.splitlines())


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() or f"none ({sys.platform})"
