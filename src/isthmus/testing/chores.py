"""What the contract suite asks other processes to do; each gets the connector first."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.connectors import Buffer

__all__ = [
    "evict",
    "exists",
    "get",
    "hold",
    "lease",
    "pattern",
    "put",
    "put_all_at",
    "put_later",
    "put_leased",
    "put_one_at",
    "renew",
    "seed_of",
    "still_held",
    "sweep",
    "wait",
]

_held: list[Any] = []


def pattern(seed: int, size: int) -> bytes:
    """Return bytes that tell their seed, and whether a part is missing or another object's."""
    unit = seed.to_bytes(8, "little") + random.Random(seed).randbytes(1016)
    return (unit * (size // len(unit) + 1))[:size]


def seed_of(data: Buffer) -> int:
    """Return the seed of a pattern of at least 8 bytes; an AssertionError if it is torn."""
    whole = bytes(data)
    seed = int.from_bytes(whole[:8], "little")
    assert whole == pattern(seed, len(whole)), "the object is torn"
    return seed


def put(connector: Any, seed: int, size: int) -> Any:
    """Store a pattern."""
    return connector.put(pattern(seed, size))


def get(connector: Any, key: Any) -> Any:
    """Return an object."""
    return connector.get(key)


def exists(connector: Any, key: Any) -> Any:
    """Return whether there is an object."""
    return connector.exists(key)


def evict(connector: Any, key: Any) -> None:
    """Delete an object."""
    connector.evict(key)


def wait(connector: Any, key: Any, timeout: float) -> Any:
    """Wait for an object."""
    return connector.wait(key, timeout)


def put_one_at(connector: Any, key: Any, seed: int, size: int) -> Any:
    """Store a pattern under a reserved key."""
    return connector.put_at(key, pattern(seed, size))


def put_all_at(connector: Any, keys: Sequence[Any], seed: int, size: int) -> list[bool]:
    """Try to be the first under each of several reserved keys."""
    data = pattern(seed, size)
    return [connector.put_at(key, data) for key in keys]


def put_later(connector: Any, key: Any, seed: int, size: int, delay: float) -> None:
    """Store a pattern under a reserved key after `delay` seconds."""
    time.sleep(delay)
    connector.put_at(key, pattern(seed, size))


def put_leased(connector: Any, seed: int, size: int, seconds: float, held: bool) -> Any:
    """Store a pattern with a lease."""
    return connector.put(pattern(seed, size), lease=seconds, held=held)


def lease(connector: Any, key: Any, seconds: float | None, held: bool) -> Any:
    """Give an object a lease."""
    return connector.lease(key, seconds, held=held)


def renew(connector: Any, keys: Sequence[Any]) -> Any:
    """Renew leases."""
    return connector.renew(keys)


def sweep(connector: Any) -> Any:
    """Delete what is overdue."""
    return connector.sweep()


def hold(connector: Any, key: Any) -> int:
    """Get an object and keep the view; return its size."""
    view = connector.get(key)
    _held.append(view)
    return len(view)


def still_held(connector: Any) -> list[int]:
    """Return the seeds of the views kept by `hold`."""
    return [seed_of(view) for view in _held]
