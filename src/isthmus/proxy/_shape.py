"""A class's special methods as one integer, its *shape*.

A type that fills every slot lies: ``callable(p)`` and ``isinstance(p, Iterable)`` are true of anything.
So a proxy's own type carries only what its target's class has, and since that fits into one integer it
travels with the proxy as part of :class:`~isthmus.proxy.TargetClass`. Only what can be observed without
being used has a bit; arithmetic, for one, is forwarded by every proxy and fails as the target fails.

The order of ``BITS`` is part of the wire form of a proxy: append, never reorder.
"""

from __future__ import annotations

import weakref
from typing import Any

__all__ = ["BITS", "FULL", "UNKNOWN", "bit", "shape_of"]

BITS = (
    "__len__",
    "__getitem__",
    "__setitem__",
    "__delitem__",
    "sequence item",  # C's sq_item: a list has it and a dict has not, both have __getitem__
    "__contains__",
    "__iter__",
    "__next__",
    "__reversed__",
    "__call__",
    "__hash__",
    "__buffer__",
    "__int__",
    "__float__",
    "__index__",
    "__complex__",
    "__abs__",
    "__round__",
    "__trunc__",
    "__floor__",
    "__ceil__",
    "__bytes__",
    "__fspath__",
    "__enter__",
    "__exit__",
    "__aenter__",
    "__aexit__",
    "__await__",
    "__aiter__",
    "__anext__",
    "__length_hint__",
    "__get__",
    "__set__",
    "__delete__",
    "__dataclass_fields__",
    "match sequence",  # what `case [x, y]` looks at: a flag of the type, with no name in Python
    "match mapping",
)
UNKNOWN = -1  # the shape of a proxy whose target's class is not known yet


def bit(name: str) -> int:
    """Return the bit of one entry of ``BITS``."""
    return 1 << BITS.index(name)


# What a proxy of an unknown target offers. Without the descriptor methods, which would make reading a
# class attribute resolve it, and without the flags of `match`, which exclude each other.
FULL = (1 << len(BITS)) - 1
for _name in ("__get__", "__set__", "__delete__", "__dataclass_fields__"):
    FULL &= ~bit(_name)
for _name in ("match sequence", "match mapping"):
    FULL &= ~bit(_name)

_NAMED = {name: 1 << place for place, name in enumerate(BITS) if name.startswith("__")}
_TPFLAGS_HEAPTYPE = 1 << 9
_TPFLAGS = {1 << 5: bit("match sequence"), 1 << 6: bit("match mapping")}

# Before 3.12 nothing in Python tells that a C type has the buffer protocol; these are known to.
_BUFFERS = frozenset(
    [
        "bytes",
        "bytearray",
        "memoryview",
        "array",
        "mmap",
        "PickleBuffer",
        "_CData",
        "ndarray",
        "generic",
    ]
)
_known: weakref.WeakKeyDictionary[type, int] = weakref.WeakKeyDictionary()


def shape_of(cls: type) -> int:
    """Return the shape of a class's instances.

    Remembered per class: special methods added to a class afterwards are not seen.
    """
    try:
        shape = _known.get(cls)
        if shape is None:
            shape = _known[cls] = _look_at(cls)
    except TypeError:  # its metaclass compares and does not hash
        shape = _look_at(cls)
    return shape


def has_buffer(cls: type) -> bool:
    """Return whether instances have the buffer protocol; the C implementation's answer replaces this."""
    return any(base.__name__ in _BUFFERS for base in cls.__mro__)


def has_sequence_item(cls: type) -> bool:
    """Return whether C sees a sequence; the C implementation's answer replaces this."""
    if issubclass(cls, dict):
        return False
    # A Python class with __getitem__ has it; of C's mappings and `re.Match` only `__index__`es do not.
    return bool(cls.__flags__ & _TPFLAGS_HEAPTYPE) or (
        hasattr(cls, "__iter__") and hasattr(cls, "index")
    )


def _look_at(cls: type) -> int:
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        space = base.__dict__
        found.update((name, space[name]) for name in _NAMED.keys() & space.keys())
    # A special method set to None is a refusal (`__hash__ = None`), as for the ABCs.
    shape = sum(_NAMED[name] for name, value in found.items() if value is not None)
    if issubclass(cls, type):
        shape |= bit("__getitem__")  # list[int]: a class is subscripted without having __getitem__
    elif shape & bit("__getitem__") and has_sequence_item(cls):
        shape |= bit("sequence item")
    if has_buffer(cls):
        shape |= bit("__buffer__")
    for flag, match_bit in _TPFLAGS.items():
        if cls.__flags__ & flag:
            shape |= match_bit
    return shape
