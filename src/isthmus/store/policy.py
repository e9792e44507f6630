"""Which arguments and results of a :class:`~isthmus.store.executor.StoreExecutor` go through its store.

A policy is called with an object and returns False to pass it by value, True to proxy it, or a dictionary
of options for the store's ``put`` to proxy it with: ``{"tags": ("gpu",)}`` names a connector of a multi.
It travels to the workers with every task, so it is a function of a module or one of these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from isthmus import codec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Policy", "ProxyAlways", "ProxyNever", "ProxySize", "ProxyType"]

Policy: TypeAlias = "Callable[[Any], bool | dict[str, Any]]"


@dataclass(frozen=True)
class ProxyAlways:
    """Every object goes through the store."""

    def __call__(self, obj: Any) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True)
class ProxyNever:
    """Every object is passed by value."""

    def __call__(self, obj: Any) -> bool:
        """Return False."""
        return False


class ProxyType:
    """Objects of some classes, and of those derived from them, go through the store."""

    def __init__(self, *types: type) -> None:
        self.types = types

    def __call__(self, obj: Any) -> bool:
        """Return whether the object is of one of these classes."""
        return isinstance(obj, self.types)

    def __repr__(self) -> str:
        return f"ProxyType({', '.join(kind.__qualname__ for kind in self.types)})"


@dataclass(frozen=True)
class ProxySize:
    """Objects of at least `min_bytes`, and at most `max_bytes`, go through the store.

    Arrays and texts tell their size; other objects are serialized to find out, which costs as much as
    sending them.
    """

    min_bytes: int = 0
    max_bytes: int | None = None

    def __call__(self, obj: Any) -> bool:
        """Return whether the object's size is within the bounds."""
        size = _size(obj)
        return size >= self.min_bytes and (self.max_bytes is None or size <= self.max_bytes)


def _size(obj: Any) -> int:
    if isinstance(obj, (bytes, bytearray, str)):
        return len(obj)
    told = getattr(obj, "nbytes", None)
    return told if isinstance(told, int) else codec.size(codec.encode(obj))
