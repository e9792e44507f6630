"""`import isthmus` is nearly free, and what is heavy is imported where it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"numpy", "pandas", "polars", "torch", "asyncio", "cloudpickle", "cryptography"} | {
    "importlib.metadata"
}


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "isthmus",
        "isthmus.proxy",
        "isthmus.codec",
        "isthmus.wire.frames",
        "isthmus.wire.handshake",
        "isthmus.connectors.multi",
        "isthmus.connectors.encrypted",
    ],
)
def test_nothing_heavy_is_imported(module: str) -> None:
    bare = loaded_after("pass")
    assert not (loaded_after(f"import {module}") - bare) & HEAVY
