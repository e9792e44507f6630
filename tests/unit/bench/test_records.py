from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from isthmus.bench.records import JSONRecordLogger, TaskRecord, read_records


def record(i: int) -> TaskRecord:
    return TaskRecord(
        task_id=f"t-{i}", function="f", parents=["t-0"], submitted=1.0, finished=2.0, success=True
    )


def test_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    logger = JSONRecordLogger(path)
    threads = [
        threading.Thread(target=lambda k=k: [logger.log(record(k * 100 + i)) for i in range(100)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.close()
    logger.close()
    found = list(read_records(path))
    assert {r.task_id for r in found} == {f"t-{i}" for i in range(400)}
    assert found[0].parents == ["t-0"]


def test_a_record_reaches_the_file_without_a_close(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    logger = JSONRecordLogger(path, interval=0.01)
    logger.log(record(1))
    wait = threading.Event()
    for _ in range(500):
        if path.stat().st_size:
            break
        wait.wait(0.01)
    assert [r.task_id for r in read_records(path)] == ["t-1"]
    logger.close()


@pytest.mark.parametrize("torn", [b'{"task_id": "half', b"x" * 200_000])
def test_a_torn_end_is_no_record_and_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "tasks.jsonl"
    logger = JSONRecordLogger(path)
    logger.log(record(1))
    logger.close()
    with open(path, "ab") as file:
        file.write(torn)
    assert [r.task_id for r in read_records(path)] == ["t-1"]
    again = JSONRecordLogger(path)
    again.log(record(2))
    again.close()
    assert [r.task_id for r in read_records(path)] == ["t-1", "t-2"]
    assert torn not in path.read_bytes()


def test_a_full_disk_is_told_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RLIMIT_FSIZE is how a disk becomes full here; its signal is ignored so that write() fails.
    import resource

    path = tmp_path / "tasks.jsonl"
    logger = JSONRecordLogger(path)
    logger.log(record(1))
    logger.flush()
    one = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (one + 50, hard))
    try:
        logger.log(record(2))
        logger.log(record(3))
        with pytest.raises(OSError, match="too large"):
            logger.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert path.stat().st_size == one
    assert [r.task_id for r in read_records(path)] == ["t-1"]


KILLED = """
import sys
from isthmus.bench.records import JSONRecordLogger, TaskRecord
logger = JSONRecordLogger(sys.argv[1], interval=0.01)
i = 0
while True:
    logger.log(TaskRecord(f"t-{i}", "f" * 200, [], 1.0, 2.0, True))
    i += 1
    if i % 5000 == 0:
        logger.flush()
        print(i, flush=True)
"""


@pytest.mark.parametrize("rounds", [1, 3, 6])
def test_a_killed_run_loses_no_flushed_record(tmp_path: Path, rounds: int) -> None:
    path = tmp_path / "tasks.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        flushed = [int(child.stdout.readline()) for _ in range(rounds)][-1]
        os.kill(child.pid, signal.SIGKILL)
    found = [r.task_id for r in read_records(path)]
    assert len(found) >= flushed
    assert found == [f"t-{i}" for i in range(len(found))]
