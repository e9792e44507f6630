"""What a variant tells the demo while it runs: one JSON object a line."""

from __future__ import annotations

import msgspec

__all__ = ["Begun", "Ended", "Event", "Plan", "Progress", "Ready", "decode", "encode"]


class Plan(msgspec.Struct, frozen=True):
    """What one variant has to do."""

    workload: str
    """``words`` or ``cholesky``."""
    engine: str
    """``process`` or ``dask``."""
    by_proxy: bool
    workers: int
    runs: int
    budget: float
    """Seconds of runs after which no further one begins, once there were two."""
    space: str
    """Name of the shared memory that the variant may use."""
    sizes: dict[str, int]
    """Parameters of the workload."""
    verified: str = ""
    """Digest of a result that an earlier variant has checked: the same again needs no second check."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Workers are up and warm."""

    startup: float


class Begun(msgspec.Struct, tag=True, frozen=True):
    """A run begins."""

    run: int
    at: float
    """By the system-wide monotonic clock."""


class Progress(msgspec.Struct, tag=True, frozen=True):
    """So many tasks of the run have ended."""

    tasks: int


class Ended(msgspec.Struct, tag=True, frozen=True):
    """A run has ended and its result was checked; quantities as in `report.Measured`."""

    run: int
    at: float
    makespan: float
    tasks: int
    scheduler_bytes: int | None
    worker_bytes: int | None
    stored_bytes: int
    stored_objects: int
    check: str
    """Empty if the result is the one that an earlier variant has checked."""
    digest: str
    what: str
    """The workload in a sentence, with its sizes."""


Event = Ready | Begun | Progress | Ended

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
