"""Which variants a demo has, and the shared memory that they get."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from isthmus.cli.demo.conduct import ENGINES
from isthmus.cli.demo.events import Plan
from isthmus.cli.demo.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["folders", "plans", "space"]

RUNS = 3
QUICK_RUNS = 2
BUDGET = 4.0
"""Seconds for the runs of one variant: a machine that needs longer makes two instead of three."""


def plans(space: str, *, workers: int, quick: bool) -> Iterator[Plan]:
    """Yield the variants in the order in which they run."""
    for name, workload in WORKLOADS.items():
        for engine in ENGINES:
            for by_proxy in (False, True):
                yield Plan(
                    workload=name,
                    engine=engine,
                    by_proxy=by_proxy,
                    workers=workers,
                    runs=QUICK_RUNS if quick else RUNS,
                    budget=BUDGET,
                    space=space,
                    sizes=workload.quick if quick else workload.full,
                )


@contextlib.contextmanager
def space() -> Iterator[str]:
    """Yield the name of a space in shared memory, and empty it in the end, whatever happened."""
    from isthmus.connectors.shm import SharedMemoryConnector

    name = f"demo-{os.getpid()}"
    try:
        yield name
    finally:
        with contextlib.closing(SharedMemoryConnector(name)) as connector:
            connector.sweep()
            connector.clear()


def folders(space: str) -> list[str]:
    """Return where the memory of a space lies."""
    from isthmus.connectors.shm.area import root

    return [os.path.join(root(), f"isthmus-{os.getuid()}", space)]
