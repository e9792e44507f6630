"""The environments under test, each a long-lived worker process, so that both sides alternate."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[1]
HERE = "isthmus"  # our own environment, where the bare references run too
PEER_PYTHON = Path(os.environ.get("ISTHMUS_PEERS", ROOT / ".venv-peers")) / "bin" / "python"
COLMENA_PYTHON = ROOT / ".venv-colmena" / "bin" / "python"


class SideError(Exception):
    """The code of one side failed; args: side, name of the error, message, traceback."""

    def __str__(self) -> str:
        side, error, message, _ = self.args
        return f"{side}: {error}: {message}"


class Worker:
    """A process in one environment that prepares and times snippets."""

    def __init__(self, side: str, python: str | os.PathLike[str]) -> None:
        if not Path(python).exists():
            script = "setup-colmena" if side == "Colmena" else "setup-peers"
            raise SideError(side, "not installed", f"run scripts/{script}", "")
        self.side = side
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [os.fspath(python), "-m", "benchmarks.worker"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, do: str, name: str, *, timeout: float = 180.0, **more: Any) -> float:
        """Send one request and return its answer's value.

        Raises:
            SideError: the code failed, or did not answer within `timeout` seconds.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, "name": name, **more}) + "\n")
            self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            what = "died" if ready else f"no answer in {timeout:g} s"
            tail = self._tail()
            self.close()
            raise SideError(self.side, what, tail, "")
        answer = json.loads(line)
        if "error" in answer:
            raise SideError(self.side, answer["error"], answer["message"], answer["traceback"])
        return answer["value"]

    @property
    def alive(self) -> bool:
        """Whether requests still reach the process."""
        return self._process.poll() is None

    def close(self) -> None:
        """Hang up; the process ends by itself, or is ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _tail(self) -> str:
        self._log.seek(0)
        return self._log.read()[-500:].strip()


class Workers:
    """One worker a side, started when first asked for; a context manager."""

    def __init__(self) -> None:
        self._workers: dict[str, Worker] = {}

    def __getitem__(self, side: str) -> Worker:
        worker = self._workers.get(side)
        if worker is None or not worker.alive:
            own = {HERE: sys.executable, "Colmena": COLMENA_PYTHON}
            worker = Worker(side, own.get(side, PEER_PYTHON))
            self._workers[side] = worker
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()
