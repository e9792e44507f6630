"""Who asks a proxy for its class: its user, or a program that only carries it?

A proxy whose target's class is unknown has to fetch the target to say what it is. Its user gets that
answer. An engine, a scheduler or a pickler asks of everything that passes through, on the way from the
client to the worker, where fetching would be a waste and waiting for a future's result a deadlock: it
is told the truth that costs nothing, that this is a Proxy.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["ENGINES", "asked_by_engine"]

ENGINES = frozenset(
    [
        "asyncio",
        "cloudpickle",
        "concurrent",
        "dask",
        "dill",
        "distributed",
        "executorlib",
        "globus_compute_endpoint",
        "globus_compute_sdk",
        "ipyparallel",
        "isthmus",
        "joblib",
        "loky",
        "mpi4py",
        "multiprocessing",
        "ndcctools",
        "parsl",
        "pickle",
        "ray",
    ]
)
"""Top-level packages that carry objects without using them."""

# They stand between a question and who asked it: ABCMeta's isinstance, and this package's own code.
_BETWEEN = ("abc", "_py_abc", "functools")


def asked_by_engine() -> bool:
    """Return whether the nearest caller outside of this package is one of ``ENGINES``."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not (name.startswith("isthmus.proxy") or name in _BETWEEN):
            return name.partition(".")[0] in ENGINES
        frame = frame.f_back
    return False
