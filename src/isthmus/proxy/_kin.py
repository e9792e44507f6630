"""The types that proxies really have: for each public class, one per shape of target.

``Proxy(...)`` makes an instance of a *kin* of Proxy, a sibling type that has the special methods of the
target's class and no others. A user's subclass of Proxy gets kin of its own, made of the subclass and
the kin of Proxy. Kin keep the name of their class and are never seen but through ``type(p)``.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SHAPE", "is_proxy", "kin", "public", "roots"]

SHAPE = "_isthmus_shape"  # in a kin's own namespace: the shape that it has
_KIN = "_isthmus_kin"  # in a public class's own namespace: {shape: kin}
roots: list[type] = []  # the Proxy of each implementation that was loaded


def is_proxy(obj: object) -> bool:
    """Return whether this is a proxy, of either implementation, without resolving it."""
    return issubclass(type(obj), tuple(roots))


def public(kind: type) -> type:
    """Return the class that a user wrote for a proxy's type."""
    return kind.__bases__[0] if SHAPE in kind.__dict__ else kind


def kin(cls: type, shape: int) -> type:
    """Return the type for proxies of class `cls` whose target has `shape`."""
    cls = public(cls)
    # Beside the class and not in a table of ours: a class and its kin refer to each other and shall
    # be collected together.
    if _KIN not in cls.__dict__:
        setattr(cls, _KIN, {})
    known: dict[int, type] = cls.__dict__[_KIN]
    made = known.get(shape)
    if made is None:
        made = known.setdefault(shape, _make(cls, shape))
    return made


def _make(cls: Any, shape: int) -> type:
    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__slots__": (),
        SHAPE: shape,
        # The twin's way to look for attributes of the subclass first; C has a flag for it.
        **getattr(cls, "_isthmus_derived", {}),
    }
    if cls in roots:
        made: type = cls._isthmus_make(shape)
        setattr(made, SHAPE, shape)
        return made
    root = next(base for base in cls.__mro__ if base in roots)
    metaclass: Any = type(cls)
    joined: type = metaclass(cls.__name__, (cls, kin(root, shape)), namespace)
    return joined
