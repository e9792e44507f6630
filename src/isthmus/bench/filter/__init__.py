"""Filters: which objects a transformer takes away. They travel with tasks, so they are plain."""

from __future__ import annotations

import pickle
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

__all__ = ["All", "Nothing", "ObjectSize", "ObjectType", "PickleSize", "object_size"]


@dataclass(frozen=True)
class All:
    """Everything."""

    def __call__(self, obj: Any) -> bool:
        """Return True."""
        return True


@dataclass(frozen=True)
class Nothing:
    """Nothing."""

    def __call__(self, obj: Any) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True)
class _Sized(ABC):
    """Objects of a size: ``min_size <= size <= max_size`` bytes, no upper limit if that is None."""

    min_size: int = 0
    max_size: int | None = None

    def __post_init__(self) -> None:
        if self.min_size < 0:
            raise ValueError(f"min_size is {self.min_size}; a size cannot be negative")
        if self.max_size is not None and self.max_size < self.min_size:
            raise ValueError(
                f"max_size {self.max_size} is less than min_size {self.min_size}: nothing would pass"
            )

    def __call__(self, obj: Any) -> bool:
        """Return whether the object's size is within the limits."""
        size = self.measure(obj)
        return self.min_size <= size and (self.max_size is None or size <= self.max_size)

    @abstractmethod
    def measure(self, obj: Any) -> int: ...


class ObjectSize(_Sized):
    """By size in memory, as `object_size` estimates it: cheap."""

    def measure(self, obj: Any) -> int:
        """Return the estimate, in bytes."""
        return object_size(obj)


class PickleSize(_Sized):
    """By size when pickled: exact, and as dear as pickling once more.

    What does not pickle passes no filter; the task will tell.
    """

    def measure(self, obj: Any) -> int:
        """Return the bytes of the pickle, out-of-band buffers included; -1 if it does not pickle."""
        buffers: list[pickle.PickleBuffer] = []
        try:
            body = len(pickle.dumps(obj, protocol=5, buffer_callback=buffers.append))
        except Exception:
            return -1
        return body + sum(b.raw().nbytes for b in buffers)


@dataclass(frozen=True)
class ObjectType:
    """By the name of the type.

    Args:
        types: names such as ``ndarray``, or with the module, ``numpy.ndarray``; base classes count.
    """

    types: tuple[str, ...]

    def __call__(self, obj: Any) -> bool:
        """Return whether the object's class, or a base of it, is among the names."""
        return any(
            base.__qualname__ in self.types
            or f"{base.__module__}.{base.__qualname__}" in self.types
            for base in type(obj).__mro__
        )


def object_size(obj: Any) -> int:
    """Return about how many bytes an object takes: its buffer, or itself and the items of a container.

    Nested containers count with their own headers only; `PickleSize` is exact.
    """
    nbytes = getattr(obj, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    size = sys.getsizeof(obj)
    if isinstance(obj, dict):
        size += sum(map(sys.getsizeof, obj)) + sum(map(_flat, obj.values()))
    elif isinstance(obj, (list, tuple, set, frozenset)):
        size += sum(map(_flat, obj))
    return size


def _flat(obj: Any) -> int:
    """Return the bytes of an object, without the items of a container."""
    nbytes = getattr(obj, "nbytes", None)
    return nbytes if isinstance(nbytes, int) else sys.getsizeof(obj)
