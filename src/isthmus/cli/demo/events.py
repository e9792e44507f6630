"""What a variant and the demo tell each other: one JSON object a line."""

from __future__ import annotations

import msgspec

__all__ = ["Begun", "Ended", "Event", "Go", "Plan", "Progress", "Ready", "decode", "encode"]


class Plan(msgspec.Struct, frozen=True):
    """What one variant has to do."""

    workload: str
    """``words`` or ``cholesky``."""
    engine: str
    """``process`` or ``dask``."""
    by_proxy: bool
    workers: int
    space: str
    """Name of the shared memory that the variant may use."""
    sizes: dict[str, int]
    """Parameters of the workload."""


class Go(msgspec.Struct, frozen=True):
    """To a variant: run once more."""

    verified: str
    """Digest of a result that was checked already: the same again needs no second check."""


class Ready(msgspec.Struct, tag=True, frozen=True):
    """Workers are up and warm, the input is read."""

    startup: float
    """Seconds until the workers were there."""
    what: str
    """The workload in a sentence, with its sizes."""


class Begun(msgspec.Struct, tag=True, frozen=True):
    """A run begins."""

    at: float
    """By the system-wide monotonic clock."""


class Progress(msgspec.Struct, tag=True, frozen=True):
    """So many tasks of the run have ended."""

    tasks: int


class Ended(msgspec.Struct, tag=True, frozen=True):
    """A run has ended and its result was checked; quantities as in `report.Measured`."""

    at: float
    makespan: float
    tasks: int
    scheduler_bytes: int | None
    worker_bytes: int | None
    stored_bytes: int
    stored_objects: int
    check: str
    """Empty if the result is one that was checked before."""
    digest: str


Event = Ready | Begun | Progress | Ended

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Event).decode
