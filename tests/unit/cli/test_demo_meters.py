"""What the demo counts with: memory of processes, bytes on pipes and on TCP connections."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from isthmus.cli.demo.memory import Sampler, family, memory
from isthmus.cli.demo.traffic import PipeTraffic, connection_bytes

HOLD = "import sys; held = bytearray(b'x' * {}); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def holder() -> object:
    """A process that holds 64 MB until it is told to go."""
    code = HOLD.format(64_000_000)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate()


def test_family_is_all_descendants(holder: subprocess.Popen[bytes]) -> None:
    assert {os.getpid(), holder.pid} <= set(family(os.getpid()))
    assert list(family(holder.pid)) == [holder.pid]
    assert list(family(2**22 + 1)) == [2**22 + 1]  # no such process; it has no children


def test_memory_is_what_processes_and_files_hold(
    holder: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    held = memory([holder.pid])
    assert 64_000_000 < held < 120_000_000
    file = tmp_path / "object"
    file.write_bytes(b"y" * 1_000_000)
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
    assert 1_000_000 <= memory([], [str(file), str(tmp_path / "gone")]) < 1_100_000
    assert memory([2**22 + 1]) == 0


def test_sampler_sees_memory_and_files(holder: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "object").write_bytes(b"y" * 3_000_000)
    begin = time.monotonic()
    with Sampler(holder.pid, [str(tmp_path)], interval=0.01) as sampler:
        while len(sampler.samples) < 3 and time.monotonic() < begin + 10:
            time.sleep(0.01)
    assert len(sampler.samples) >= 3
    times = [at for at, _ in sampler.samples]
    assert times == sorted(times)
    assert times[0] >= begin
    assert all(total > 64_000_000 for _, total in sampler.samples)


def test_pipes_are_counted_both_ways_and_left_as_they_were() -> None:
    here, there = multiprocessing.Pipe()
    with here, there:
        original = type(here)._send_bytes
        with PipeTraffic() as traffic:
            for size in (10, 30_000):
                thread = threading.Thread(target=here.send_bytes, args=(b"x" * size,))
                thread.start()
                assert len(there.recv_bytes()) == size
                thread.join()
        assert traffic.bytes == 2 * 30_010
        assert type(here)._send_bytes is original
        here.send_bytes(b"x" * 10)
        assert there.recv_bytes() == b"x" * 10
        assert traffic.bytes == 2 * 30_010


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counters are Linux's")
def test_connections_are_counted_by_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert connection_bytes({port}, set()) == 0
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                before = connection_bytes({port}, set())
                assert before is not None
                client.sendall(b"x" * 50_000)
                received = 0
                while received < 50_000:
                    received += len(accepted.recv(65536))
                now = connection_bytes({port}, set())
                assert now == before + 50_000
                # Seen from the other end it is the same connection.
                assert (connection_bytes(set(), {port}) or 0) >= 50_000
                assert connection_bytes({1}, {1}) == 0
