"""`isthmus doctor`: what it looks at, and what it says where something is missing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from isthmus import compat
from isthmus.cli import doctor, main, packages
from isthmus.cli.machine import Machine, SharedMemory, shared_memory
from isthmus.cli.packages import Package
from isthmus.cli.servers import SERVERS, ask_all


def findings() -> dict[str, doctor.Finding]:
    return {f.name: f for f in doctor.examine()}


def test_json_and_text_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    names = {f["name"] for f in found}
    assert {"isthmus", "python", "proxy", "msgspec", "cores", "memory", "shared memory"} <= names
    assert {"open files", "Redis", "NATS", "RabbitMQ", "numpy", "torch"} <= names
    for finding in found:
        assert finding["state"] in {"ok", "absent", "warn", "broken"}
        assert finding["name"] in text
        assert finding["advice"] in text
        if finding["state"] != "ok":
            assert finding["advice"]


def test_versions_are_those_installed() -> None:
    found = findings()
    assert found["numpy"] == ("extras", "numpy", "ok", version("numpy"), "")
    assert found["msgspec"].section == "core"
    assert sys.version.split()[0] in found["python"].found


def test_heavy_packages_are_not_imported() -> None:
    code = (
        "import sys; from isthmus.cli import main; code = main(['doctor', '--json']);"
        "heavy = {'numpy', 'pandas', 'distributed', 'rich', 'psutil', 'pydantic'} & set(sys.modules);"
        "sys.exit(code or (repr(heavy) if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_works_with_the_core_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def bare(name: str) -> str:
        if name in ("msgspec", "cloudpickle"):
            return version(name)
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", bare)
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "pip install 'isthmus[dask]'" in shown
    assert "isthmus works here" in shown


def test_a_missing_core_dependency_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(packages, "version", gone)
    assert main(["doctor"]) == 1
    assert "2 essential" in capsys.readouterr().out


def test_an_old_version_gets_the_upgrade_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Package("numpy", "numpy", "1.26", "1.9.3").good
    assert Package("numpy", "numpy", "1.26", "1.26").good
    assert Package("torch", "torch", "2.5", "2.13.0+cpu").good
    monkeypatch.setattr(packages, "version", lambda name: "0.0.1")
    assert "pip install -U 'numpy>=1.26'" in findings()["numpy"].advice


def test_uninstalled_tree_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def uninstalled() -> list[Package]:
        raise PackageNotFoundError("isthmus")

    monkeypatch.setattr(doctor, "packages", uninstalled)
    assert findings()["metadata"].state == "warn"


@pytest.mark.parametrize(
    ("memory", "says"),
    [
        (None, "there is none"),
        (SharedMemory("/dev/shm", 64 << 20, 64 << 20, True), "67.1 MB"),
        (SharedMemory("/dev/shm", 8 << 30, 8 << 30, False), "not writable"),
        (SharedMemory("/dev/shm", 8 << 30, 1 << 20, True), "nearly full"),
    ],
)
def test_poor_shared_memory_is_a_warning_with_advice(
    monkeypatch: pytest.MonkeyPatch, memory: SharedMemory | None, says: str
) -> None:
    here = Machine.here()._replace(shared_memory=memory)
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: here))
    finding = findings()["shared memory"]
    assert finding.state == "warn"
    assert says in finding.found
    assert finding.advice


def test_few_open_files_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Machine.here()._replace(open_files=(256, 4096))
    monkeypatch.setattr(Machine, "here", classmethod(lambda cls: here))
    finding = findings()["open files"]
    assert finding.state == "warn"
    assert "ulimit -n 4096" in finding.advice


def test_this_machine_is_seen_as_it_is(tmp_path: object) -> None:
    here = Machine.here()
    assert 0 < here.cores <= here.cores_present
    assert 0 < here.memory_available < here.memory
    assert shared_memory("/no/such/place") is None
    there = shared_memory(str(tmp_path))
    assert there is not None
    assert there.writable
    assert there.free <= there.total


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A server for one connection that reads nothing and says `reply`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                if reply:
                    connection.sendall(reply)
                connection.settimeout(5)
                while connection.recv(1024):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


START = (
    b"\x01\x00\x00\x00\x00\x00\x40\x00\x0a\x00\x0a\x00\x09\x00\x00\x00\x12"
    b"\x07versionS\x00\x00\x00\x063.10.8\xce"
)


@pytest.mark.parametrize(
    ("name", "reply", "version"),
    [
        ("Redis", b"$99\r\n# Server\r\nredis_version:7.0.15\r\n", "7.0.15"),
        ("Redis", b"-NOAUTH Authentication required.\r\n", ""),
        ("NATS", b'INFO {"version":"2.9.10","jetstream":true} \r\n', "2.9.10 with JetStream"),
        ("RabbitMQ", START, "3.10.8"),
        ("Redis", b"HTTP/1.1 400 Bad Request\r\n", None),
        ("NATS", b"+OK\r\n", None),
        ("RabbitMQ", b"AMQP\x00\x01\x00\x00", None),
    ],
)
def test_servers_are_known_by_their_words(
    monkeypatch: pytest.MonkeyPatch, name: str, reply: bytes, version: str | None
) -> None:
    server = next(s for s in SERVERS if s.name == name)
    with answering(reply) as address:
        monkeypatch.setenv(server.variable, address)
        answer = next(a for a in ask_all(timeout=2) if a.server is server)
    assert answer.version == version
    assert bool(answer.trouble) == (version is None)


def test_a_closed_port_and_a_silent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ISTHMUS_NATS", f"127.0.0.1:{silent.getsockname()[1]}")
        free = socket.create_server(("127.0.0.1", 0))
        monkeypatch.setenv("ISTHMUS_REDIS", f"127.0.0.1:{free.getsockname()[1]}")
        free.close()
        answers = {a.server.name: a for a in ask_all(timeout=0.05)}
    assert answers["Redis"][2:] == (None, "")
    assert answers["NATS"].version is None
    assert "timed out" in answers["NATS"].trouble


def test_a_wrong_address_is_a_user_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ISTHMUS_REDIS", "somewhere")
    assert main(["doctor"]) == 2
    assert "ISTHMUS_REDIS" in capsys.readouterr().err


def test_it_tells_what_stands_in_for_a_foreign_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "not set" in findings()["aliases"].found
    monkeypatch.setenv("ISTHMUS_COMPAT", "proxystore,taps,academy,nonsense")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "taps").mkdir()
    (tmp_path / "taps" / "__init__.py").touch()
    found = findings()
    assert "isthmus-compat.pth is not in effect" in found["proxystore"].found
    compat.install("proxystore", "taps", "academy")
    try:
        found = findings()
    finally:
        compat.uninstall()
    assert (found["proxystore"].state, found["proxystore"].found) == (
        "ok",
        "isthmus stands in for it",
    )
    assert str(tmp_path) in found["taps"].found
    assert (found["academy"].state, found["nonsense"].state) == ("warn", "warn")
    assert "agents" in found["academy"].found
