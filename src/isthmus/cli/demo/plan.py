"""Which variants a demo has, and the shared memory that they get."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from isthmus.cli.demo.conduct import ENGINES, Rounds
from isthmus.cli.demo.events import Plan
from isthmus.cli.demo.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["QUICK", "ROUNDS", "folders", "pairs", "space"]

ROUNDS = Rounds(least=3, most=5, budget=5.0)
QUICK = Rounds(least=2, most=2, budget=0.0)


def pairs(space: str, *, workers: int, quick: bool) -> Iterator[list[Plan]]:
    """Yield what is compared: a workload on an engine, by value and by proxy."""
    for name, workload in WORKLOADS.items():
        for engine in ENGINES:
            yield [
                Plan(
                    workload=name,
                    engine=engine,
                    by_proxy=by_proxy,
                    workers=workers,
                    space=space,
                    sizes=workload.quick if quick else workload.full,
                )
                for by_proxy in (False, True)
            ]


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
