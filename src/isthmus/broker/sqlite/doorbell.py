"""Telling other processes that a log has something new, without their asking all the time.

Beside the file lies a folder with one FIFO for each process that waits. Whoever has committed writes the
numbers of the logs into each. A FIFO needs no port and no short path, works between containers that share
the file, and a dead reader's is recognised, and removed, by the first who cannot open it. A ring can get
lost, when a reader is thousands behind, so who waits also looks every second.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Listener", "Ringer"]

_PER_WRITE = 512 // 8  # 512 bytes are atomic on any POSIX system
_SETTLED = 50_000_000  # ns: older than a file system's time stamps are coarse


class Listener:
    """This process's FIFO. Raises OSError where there can be none."""

    def __init__(self, folder: str) -> None:
        self.name = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._folder = folder
        self._stopped = False
        # Renamed when it has a reader: one without is taken for dead.
        unready = os.path.join(folder, f".{self.name}")
        while True:
            os.makedirs(folder, exist_ok=True)
            try:
                os.mkfifo(unready)
                break
            except FileNotFoundError:
                continue  # the last to leave removed the folder just now
        self._fd = os.open(unready, os.O_RDONLY | os.O_NONBLOCK)
        self._own_end = os.open(unready, os.O_WRONLY | os.O_NONBLOCK)  # no end of file, and `stop`
        self._path = os.path.join(folder, self.name)
        os.rename(unready, self._path)

    def rings(self) -> Iterator[set[int]]:
        """Yield the numbers of the logs that rang, as they come, until `stop` is called."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while True:
            poll.poll()
            data = os.read(self._fd, 1 << 16)
            logs = {n for (n,) in struct.iter_unpack("<q", data[: len(data) // 8 * 8])}
            if self._stopped:
                return
            yield logs

    def stop(self) -> None:
        """End `rings`, from any thread. `close` must follow."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._stopped = True
        with contextlib.suppress(BlockingIOError):  # so full that whoever reads wakes anyway
            os.write(self._own_end, struct.pack("<q", 0))

    def close(self) -> None:
        """Close it, and remove the folder if it is the last."""
        self.forget()
        with contextlib.suppress(OSError):
            os.rmdir(self._folder)

    def forget(self) -> None:
        """Close it in a forked child: it is the parent's."""
        os.close(self._fd)
        os.close(self._own_end)


class Ringer:
    """The FIFOs of other processes."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._seen = 0  # the folder's time of change when it was read
        self._fds: dict[str, int] = {}

    def ring(self, logs: Iterable[int], own: str | None) -> None:
        """Tell every process but this one, whose FIFO is `own`."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except FileNotFoundError:
            self.close()
            return
        if changed != self._seen:
            self._scan(own)
            # A change within the clock's grain looks like none: such a folder is read again next time.
            self._seen = changed if time.time_ns() - changed > _SETTLED else 0
        if not self._fds:
            return
        numbers = list(logs)
        for start in range(0, len(numbers), _PER_WRITE):
            some = numbers[start : start + _PER_WRITE]
            message = struct.pack(f"<{len(some)}q", *some)
            for name in list(self._fds):
                self._write(name, message)

    def _write(self, name: str, message: bytes) -> None:
        try:
            os.write(self._fds[name], message)
        except BlockingIOError:
            pass  # it has so many rings to read that it looks anyway
        except OSError:
            os.close(self._fds.pop(name))
            self._remove(name)

    def _scan(self, own: str | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if name.startswith(".") or name == own or name in self._fds:
                    continue
                path = os.path.join(self._folder, name)
                try:
                    self._fds[name] = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                except OSError as error:
                    if error.errno == errno.ENXIO:
                        self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._folder, name))

    def close(self) -> None:
        """Close what is open."""
        while self._fds:
            os.close(self._fds.popitem()[1])
        self._seen = 0
