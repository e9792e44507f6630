"""Records of tasks: one JSON object a line, cheap to write, whole to read.

A logger buffers lines for a tenth of a second and hands them to the kernel in one write. What a kill
loses is that tenth; what it can tear is the end of the last write, so a reader takes complete lines
only, and a logger that opens a file again first cuts off what follows its last newline.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["JSONRecordLogger", "NullRecordLogger", "TaskRecord", "read_records"]


class TaskRecord(msgspec.Struct, omit_defaults=True):
    """What is known of a finished task. Times end in ``_s`` (seconds) and are monotonic durations.

    The three wall-clock times are Unix seconds: `submitted` and `finished` by the client's clock,
    `started` by the worker's. Across hosts compare durations, not these. A task that never reached a
    worker, or whose worker died, has no worker's figures.
    """

    task_id: str
    function: str
    parents: list[str]
    """Tasks whose results this one took, however deep in its arguments."""
    submitted: float
    finished: float
    success: bool
    error: str = ""
    started: float = 0.0
    latency_s: float = 0.0
    """From `Engine.submit` to the client's learning of the end."""
    input_transform_s: float = 0.0
    """In `Engine.submit`, transforming arguments."""
    input_resolve_s: float = 0.0
    execute_s: float = 0.0
    """The function alone."""
    result_transform_s: float = 0.0
    cpu_s: float = 0.0
    """CPU time of the thread that ran the task; native threads that it started are not in it."""
    max_rss_bytes: int = 0
    """High-water mark of the worker process so far, not of the task."""
    transformed_bytes: int = 0
    """Arguments taken away by the transformer, where it tells sizes."""
    input_bytes: int = 0
    output_bytes: int = 0
    host: str = ""
    pid: int = 0
    worker: str = ""

    @property
    def overhead_s(self) -> float:
        """Latency not spent in the worker's wrapper: waiting for inputs, queueing, transfer."""
        inside = self.input_resolve_s + self.execute_s + self.result_transform_s
        return self.latency_s - self.input_transform_s - inside


class NullRecordLogger:
    """Keeps nothing."""

    def log(self, record: TaskRecord) -> None:
        """Forget the record."""

    def close(self) -> None:
        """Do nothing."""


class JSONRecordLogger:
    """Appends records to a file of JSON lines.

    Args:
        path: the file; made if it is not there. A torn last line of an earlier, killed run is cut off.
        interval: seconds for which records may wait in memory.

    Raises:
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: str | os.PathLike[str], *, interval: float = 0.1) -> None:
        self.path = os.fspath(path)
        self.interval = interval
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        os.ftruncate(self._fd, _complete(self._fd))
        self._encoder = msgspec.json.Encoder()
        self._waiting: deque[TaskRecord] = deque()
        self._arrived = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failure: OSError | None = None

    def log(self, record: TaskRecord) -> None:
        """Queue a record; a microsecond. Encoding and writing happen on the logger's own thread."""
        self._waiting.append(record)
        if not self._arrived.is_set():
            self._arrived.set()
            if self._thread is None:
                self._start()

    def flush(self) -> None:
        """Write what is queued.

        Raises:
            OSError: the disk is full, or worse; the file still ends with a whole line.
        """
        with self._lock:
            batch = []
            while self._waiting:
                batch.append(self._waiting.popleft())
            if batch:
                self._write(self._encoder.encode_lines(batch))

    def close(self) -> None:
        """Write what is queued and close the file; idempotent.

        Raises:
            OSError: now or earlier, records could not be written.
        """
        self._stop.set()
        self._arrived.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._fd < 0:
            return
        try:
            self.flush()
        finally:
            fd, self._fd = self._fd, -1
            os.close(fd)
        if self._failure is not None:
            raise self._failure

    def _start(self) -> None:
        # On the first record, not before: a process pool that forks has forked its workers by then.
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="isthmus-records", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._arrived.wait()
            self._stop.wait(self.interval)
            self._arrived.clear()
            try:
                self.flush()
            except OSError as error:
                self._failure = self._failure or error
                return

    def _write(self, lines: bytes) -> None:
        end = os.fstat(self._fd).st_size
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, end)  # a half-written batch is no record of anything
            raise


def read_records(path: str | os.PathLike[str]) -> Iterator[TaskRecord]:
    """Yield the records of a file; an incomplete last line, of a run that was killed, is no record.

    Raises:
        OSError: the file cannot be read.
        msgspec.ValidationError: a complete line is not a record.
    """
    decoder = msgspec.json.Decoder(TaskRecord)
    with open(path, "rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield decoder.decode(line)


def _complete(fd: int) -> int:
    """Return the length of the file up to its last newline."""
    end = os.fstat(fd).st_size
    while end:
        begin = max(0, end - 65536)
        found = os.pread(fd, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
