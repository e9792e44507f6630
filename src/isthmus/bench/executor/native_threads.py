"""Limit the threads that numeric libraries start in a worker.

Two workers that each start a thread per core fight for the cores, and the benchmark measures the
fight. The libraries read the environment when they are loaded, so it must be right when a worker's
interpreter starts.
"""

from __future__ import annotations

import contextlib
import os
import threading
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VARIABLES", "LimitedSpawnContext", "environment", "limited"]

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

_environ = threading.Lock()


def environment(threads: int) -> dict[str, str]:
    """Return the variables for a limit; none for 0, which leaves all as it is."""
    return dict.fromkeys(VARIABLES, str(threads)) if threads else {}


@contextlib.contextmanager
def limited(threads: int) -> Iterator[None]:
    """Limit what is started inside the block."""
    wanted = environment(threads)
    with _environ:
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class LimitedSpawnContext(SpawnContext):
    """A spawn context whose processes start with the limit in their environment.

    Args:
        threads: the limit; 0 for none.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.threads = threads

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        """Make a process."""
        process = _Limited(*args, **kwargs)
        process.threads = self.threads
        return process


class _Limited(SpawnProcess):
    """Travels to its own process, so it is found by name, and its limit is an attribute."""

    threads = 0

    def start(self) -> None:
        with limited(self.threads):
            super().start()
