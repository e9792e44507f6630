"""Another process that has the same connector open, to be asked, and to be killed."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import traceback
from multiprocessing.connection import Connection
from socket import socketpair
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

__all__ = ["Peer", "PeerError"]


class PeerError(RuntimeError):
    """The other process raised what cannot be sent back. ``args``: its traceback."""


class Peer:
    """A fresh interpreter with a connector opened from this one's type and configuration.

    What it is asked to do is an importable function that gets the connector first. A view in a result
    comes back as bytes. Without a connector, the functions get None.
    """

    def __init__(self, connector: Any = None) -> None:
        ours, theirs = socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "isthmus.testing.peer", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        self._link = Connection(ours.detach())
        how = None
        if connector is not None:
            kind = type(connector)
            how = (kind.__module__, kind.__qualname__, connector.config())
        self._link.send(how)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        """Have ``function(connector, *args)`` called there; `result` waits for it."""
        self._link.send((function, args))

    def result(self, timeout: float = 60.0) -> Any:
        """Return what the started function returned, or raise what it raised.

        Raises:
            TimeoutError: it did not answer within `timeout` seconds.
            EOFError: it died.
        """
        if not self._link.poll(timeout):
            raise TimeoutError(f"process {self.pid} did not answer within {timeout:g} s")
        error, value = self._link.recv()
        if error is not None:
            raise error
        return value

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start a function there and wait for what it returns."""
        self.start(function, *args)
        return self.result()

    def kill(self) -> None:
        """SIGKILL: no exit handler runs."""
        self.send_signal(signal.SIGKILL)
        self._process.wait()

    def send_signal(self, signal: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(signal)

    def close(self) -> None:
        """Let it close its connector and exit; kill it if it does not."""
        self._link.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sendable(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _serve(link: Connection) -> None:
    how = link.recv()
    connector: Any = None
    if how is not None:
        module, name, config = how
        connector = getattr(importlib.import_module(module), name).from_config(config)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            function, args = link.recv()
            answer: tuple[BaseException | None, Any]
            try:
                answer = (None, _sendable(function(connector, *args)))
            except Exception as error:  # a ConnectionError too: it is not this link's
                answer = (error, None)
            try:
                link.send(answer)
            except (EOFError, ConnectionError):
                raise
            except Exception:
                link.send((PeerError(traceback.format_exc()), None))
    if connector is not None:
        connector.close()


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
