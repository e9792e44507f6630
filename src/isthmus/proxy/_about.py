"""The class of a target, told in strings, so that nobody has to fetch the target to ask."""

from __future__ import annotations

import importlib
import sys
import types
from typing import NamedTuple

from isthmus.proxy._shape import shape_of

__all__ = ["TargetClass", "load_class"]


class TargetClass(NamedTuple):
    """What a proxy knows of its target's class before the target is there.

    Strings, not the class itself: a scheduler that hands the proxy on needs no numpy for it.
    """

    module: str
    """Name of the module that defines the class."""
    qualname: str
    """Qualified name of the class in it."""
    shape: int
    """The class's special methods, one bit each."""

    @classmethod
    def of(cls, obj: object) -> TargetClass:
        """Describe a class, or the class of an object that is not one.

        A target that is itself a class needs ``TargetClass.of(type(target))``.
        """
        kind = obj if isinstance(obj, type) else type(obj)
        return cls(kind.__module__, kind.__qualname__, shape_of(kind))


# Classes that say they are of builtins and are not found there: functions, generators, modules, None.
_HIDDEN = {
    kind.__qualname__: kind
    for kind in vars(types).values()
    if isinstance(kind, type) and kind.__module__ == "builtins"
}

# Modules that are not there. Frameworks ask for an object's class at every turn, and a failing import
# is slow; once imported by somebody a module is found in sys.modules without a look here.
_absent: set[str] = set()


def load_class(about: TargetClass) -> type | None:
    """Return the class that `about` names, imported if need be; None if it is not to be had here."""
    module = sys.modules.get(about.module)
    if module is None:
        if about.module in _absent:
            return None
        try:
            module = importlib.import_module(about.module)
        except Exception:  # whatever a foreign module raises on import: the class is not to be had
            _absent.add(about.module)
            return None
    if about.module == "builtins" and about.qualname in _HIDDEN:
        return _HIDDEN[about.qualname]
    found: object = module
    for name in about.qualname.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, type) else None
