"""Real servers for tests: private, on this host alone, and gone afterwards. Needs pytest."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

__all__ = ["RedisServer", "free_port"]


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """A Redis (or Valkey) server with a folder of its own; a context manager.

    Listens on a loopback port and on a unix socket. Skips the test where no server is installed.

    Args:
        options: lines of its configuration file, in place of the defaults or beside them.
        sentinel: run as a sentinel.
        within: a command that runs the server, such as ``nsenter`` with its options.
    """

    def __init__(self, *options: str, sentinel: bool = False, within: Sequence[str] = ()) -> None:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            pytest.skip("no redis-server on this machine: apt-get install redis-server")
        self._program = found
        self._within = within
        self._sentinel = sentinel
        # Not pytest's folder: the path of a unix socket may have 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="isthmus-redis-")
        self.unix_socket = os.path.join(self.folder, "socket")
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        """Start it, on the same port as before if it ran already, and wait until it answers.

        Raises:
            RuntimeError: it does not; the message has the end of its log.
        """
        for _ in range(5):
            port = self.port or free_port()
            if self._launch(port):
                self.port = port
                return
        raise RuntimeError(f"{self._program} does not start:\n{self._log()}")

    def _launch(self, port: int) -> bool:
        lines = [
            "bind 127.0.0.1",
            f"port {port}",
            f"unixsocket {self.unix_socket}",
            f"dir {self.folder}",
            *([] if self._sentinel else ["save ''", "appendonly no"]),
            *self._options,
        ]
        path = os.path.join(self.folder, "redis.conf")
        with open(path, "w") as file:
            file.write("\n".join(lines) + "\n")
        with open(os.path.join(self.folder, "log"), "ab") as log:
            self._process = subprocess.Popen(
                [*self._within, self._program, path, *["--sentinel"] * self._sentinel],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.005)
        self.kill()
        return False

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.settimeout(5)
            probe.connect(self.unix_socket)
            probe.sendall(b"PING\r\n")
            answer = probe.recv(100)
            return bool(answer) and not answer.startswith(b"-LOADING")
        return False

    def _log(self) -> str:
        with open(os.path.join(self.folder, "log")) as log:
            return log.read()[-2000:]

    def kill(self) -> None:
        """SIGKILL: what it has not written by now is lost."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it shut down."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
