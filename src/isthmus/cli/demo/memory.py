"""Memory of a family of processes and of the shared memory it uses, each page counted once."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["Sampler", "family", "memory"]


def family(pid: int) -> Iterator[int]:
    """Yield a process and everything that descends from it."""
    yield pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as listing:
                children = listing.read().split()
        except OSError:
            continue
        for child in children:
            yield from family(int(child))


def memory(pids: Iterable[int], files: Iterable[str] = ()) -> int:
    """Return the bytes that processes and files in memory occupy.

    Pages that several processes share are divided among them. Mapped shared memory is left out of the
    processes' share, because all of it, mapped or not, is counted from the files. Processes that end
    meanwhile count as nothing.
    """
    return sum(map(_private_share, pids)) + sum(map(_allocated, files))


def _private_share(pid: int) -> int:
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith(("Pss:", "Pss_Shmem:")):
                    size = int(line.split()[1]) * 1024
                    total += size if line.startswith("Pss:") else -size
    except OSError:
        return 0
    return total


def _allocated(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


class Sampler:
    """Samples the memory of a process and its descendants, from a thread of another process.

    Args:
        pid: the eldest of the family.
        folders: where the shared memory of the family lies.
        interval: seconds between samples.
    """

    def __init__(self, pid: int, folders: Iterable[str], interval: float) -> None:
        self.samples: list[tuple[float, int]] = []
        self._pid = pid
        self._folders = list(folders)
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.samples.append((time.monotonic(), memory(family(self._pid), self._files())))
            self._stop.wait(self._interval)

    def _files(self) -> Iterator[str]:
        for folder in self._folders:
            for top, _, names in os.walk(folder):
                yield from (os.path.join(top, name) for name in names)
