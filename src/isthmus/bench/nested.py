"""Find and replace objects inside nested containers: lists, tuples, dicts, sets, dataclasses.

Futures may lie anywhere in a task's arguments. A container without any is returned as it is, the same
object; a large one costs one pass at C speed over the *types* of its items, so a list of a million
floats does not make submitting a task slow.
"""

from __future__ import annotations

import copy
import functools
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["may_hold", "replace"]


def replace(obj: Any, wanted: type, swap: Callable[[Any], Any]) -> Any:
    """Return `obj` with every instance of `wanted` inside it swapped; `obj` itself if there is none.

    Types are compared without ``isinstance``, which would ask a proxy for its class. Containers are
    copied where something in them changes, never changed; one that contains itself is left alone.
    """
    kind: Any = type(obj)
    if not may_hold(kind, wanted):
        return obj
    return _Replacing(wanted, swap).visit(obj)


@functools.lru_cache(maxsize=4096)
def may_hold(kind: type, wanted: type) -> bool:
    """Return whether an object of a type can be, or have inside, an instance of `wanted`."""
    return wanted in kind.__mro__ or _shape(kind) is not None


@functools.lru_cache(maxsize=4096)
def _shape(kind: type) -> Literal["dict", "items", "dataclass"] | None:
    """Say what sort of container a type is."""
    bases = kind.__mro__
    if dict in bases:
        return "dict"
    if any(c in bases for c in (list, tuple, set, frozenset, deque)):
        return "items"
    return "dataclass" if any("__dataclass_fields__" in vars(b) for b in bases) else None


class _Replacing:
    """One pass, and the containers that it is inside of."""

    def __init__(self, wanted: type, swap: Callable[[Any], Any]) -> None:
        self.wanted = wanted
        self.swap = swap
        self.inside: set[int] = set()

    def visit(self, obj: Any) -> Any:
        kind: Any = type(obj)
        if self.wanted in kind.__mro__:
            return self.swap(obj)
        shape = _shape(kind)
        if shape is None or id(obj) in self.inside:
            return obj
        self.inside.add(id(obj))
        try:
            if shape == "dict":
                return self.mapping(obj)
            return self.items(obj, kind) if shape == "items" else self.dataclass(obj)
        finally:
            self.inside.discard(id(obj))

    def each(self, items: Iterable[Any]) -> list[Any] | None:
        """Visit every item; None if all stayed what they were."""
        if not any(may_hold(k, self.wanted) for k in set(map(type, items))):
            return None
        old = list(items)
        new = [self.visit(item) for item in old]
        return None if all(a is b for a, b in zip(old, new, strict=True)) else new

    def mapping(self, obj: Any) -> Any:
        keys, values = self.each(obj.keys()), self.each(obj.values())
        if keys is None and values is None:
            return obj
        pairs = zip(keys or list(obj), values or list(obj.values()), strict=True)
        if type(obj) is dict:
            return dict(pairs)
        fresh = copy.copy(obj)  # keeps a default factory
        fresh.clear()
        for key, value in pairs:
            fresh[key] = value
        return fresh

    def items(self, obj: Any, kind: Any) -> Any:
        items = self.each(obj)
        if items is None:
            return obj
        if hasattr(kind, "_make"):
            return kind._make(items)
        return kind(items, obj.maxlen) if deque in kind.__mro__ else kind(items)

    def dataclass(self, obj: Any) -> Any:
        fields = {f: getattr(obj, f) for f in obj.__dataclass_fields__ if hasattr(obj, f)}
        new = self.each(fields.values())
        if new is None:
            return obj
        fresh = copy.copy(obj)
        for field, value in zip(fields, new, strict=True):
            object.__setattr__(fresh, field, value)  # frozen dataclasses too
        return fresh
