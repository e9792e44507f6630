"""Runs one of Parsl's own programs so that it goes when its client goes.

``python -m isthmus.bench.executor.parsl_process MODULE ARGUMENT...``: by the client's own interpreter, so
that no ``PATH`` has to lead to Parsl's scripts; in a process group of its own, which Ctrl-C in a terminal
does not reach, for ending the run in order needs these programs; and watching the client, of whose death by
SIGKILL neither Parsl's interchange nor its worker pool would hear for minutes, or ever.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import sys
import threading
import time

__all__ = ["main"]

_SECONDS = 0.5


def main() -> None:
    """Run the module that the first argument names, as ``python -m`` does."""
    client = os.getppid()
    if os.getpgid(0) != os.getpid():
        os.setpgid(0, 0)
    threading.Thread(target=_go_with, args=(client,), daemon=True).start()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _go_with(client: int) -> None:
    while os.getppid() == client:
        time.sleep(_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
