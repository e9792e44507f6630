"""Proxies over connectors made of connectors, resolved by a process that has only what they carry."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from isthmus.connectors.encrypted import EncryptedConnector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.multi import MultiConnector, Policy
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.store import Store

CONSUMER = """
import pickle, sys
for proxy in pickle.loads(sys.stdin.buffer.read()):
    print(sorted(proxy))
"""


def test_another_process_resolves_what_it_has_the_key_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISTHMUS_TEST_KEY", "0a" * 32)
    vault = EncryptedConnector(FileConnector(tmp_path / "vault"), ["env:ISTHMUS_TEST_KEY"])
    shared = SharedMemoryConnector(f"test-{uuid.uuid4().hex[:8]}", spill_dir=tmp_path)
    members = {
        "vault": (vault, Policy(tags="private")),
        "shared": (shared, Policy(priority=1)),
    }
    with Store("composed", MultiConnector(members)) as store:
        wire = pickle.dumps([store.proxy([2, 1]), store.proxy({"b", "a"}, tags="private")])
        command = [sys.executable, "-c", CONSUMER]
        with_key = subprocess.run(command, input=wire, capture_output=True, check=True)
        assert with_key.stdout.decode().split("\n")[:2] == ["[1, 2]", "['a', 'b']"]
        environment = {k: v for k, v in os.environ.items() if k != "ISTHMUS_TEST_KEY"}
        without = subprocess.run(command, input=wire, capture_output=True, env=environment)
        assert without.stdout.decode() == "[1, 2]\n"
        assert "MissingSecretError" in without.stderr.decode()
        assert "env:ISTHMUS_TEST_KEY is not there" in without.stderr.decode()
        store.clear()
