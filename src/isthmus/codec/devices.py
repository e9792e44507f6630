"""Where tensors of another device than the CPU are rebuilt."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["original_devices", "wants_original_device"]

_wanted: ContextVar[bool] = ContextVar("original_devices", default=False)


@contextmanager
def original_devices() -> Iterator[None]:
    """Within the block, tensors decoded in this thread go back to the device they came from.

    Otherwise they stay on the CPU: a consumer may have no such device, or another task on it.
    """
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def wants_original_device() -> bool:
    """Return whether the code runs within :func:`original_devices`."""
    return _wanted.get()
