"""What a proxy answers itself instead of passing the question on.

Frameworks, schedulers and notebooks look at objects before anybody uses them. An unresolved proxy answers
from the strings that it carries, and does no I/O for a question that its class can answer.
"""

from __future__ import annotations

from typing import Any

from isthmus.proxy._about import load_class
from isthmus.proxy._engines import asked_by_engine
from isthmus.proxy._kin import SHAPE, public, roots
from isthmus.proxy._once import resolve

__all__ = ["ALWAYS", "IMPLICIT", "OWN", "answer", "answer_unresolved", "is_own"]

_get = object.__getattribute__
_absent = object()

ALWAYS = frozenset(["__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__"])
"""Names that are a proxy's own whatever its target."""

OWN = ALWAYS | frozenset(
    [
        "__array_ufunc__",
        "__array_function__",
        "__torch_function__",
        "__dask_tokenize__",
        "__mro_entries__",
    ]
)
"""Names for which even a resolved proxy may answer itself."""

IMPLICIT = frozenset(
    [
        "__class__",
        "__module__",
        "__doc__",
        "__dict__",
        "__weakref__",
        "__qualname__",
        "__slots__",
        "__annotations__",
        "__orig_bases__",
        "__parameters__",
        "__type_params__",
        "__classcell__",
        "__firstlineno__",
        "__static_attributes__",
        "__abstractmethods__",
        "_abc_impl",
    ]
)
"""Names that a class statement makes by itself: in a subclass of Proxy they say nothing of the target."""

# Asked of anything by arrays, frames, dask, notebooks and printers, to find out what it is.
_PROBES = (
    "__dask_",
    "__torch_",
    "__array_",
    "__cuda_",
    "__arrow_",
    "__dataframe",
    "__rich_",
    "__html_",
)
_DISPLAY = ("_repr_", "_ipython_")
_SHOWN = ("_repr_html_", "_repr_mimebundle_")
# Objects of these keep dunder names of their own in their namespace, where the class says nothing of them.
_NAMESPACES = ("module", "type", "function", "method", "builtin_function_or_method", "partial")


def is_own(proxy: Any, name: str) -> bool:
    """Return whether a user's subclass of Proxy defines this name."""
    if name in IMPLICIT:
        return False
    for cls in type(proxy).__mro__:
        if cls in roots:
            return False
        if name in cls.__dict__ and SHAPE not in cls.__dict__:
            return True
    return False


def answer(proxy: Any, name: str) -> Any:
    """Return what a proxy, resolved or not, has under one of the names in ``OWN``."""
    if name in ALWAYS:
        pass
    elif name == "__dask_tokenize__":
        # The same before and after resolving: from the factory, else none (dask then pickles us).
        if not hasattr(type(_get(proxy, "_isthmus_factory")), name):
            raise _missing(proxy, name)
    elif name == "__mro_entries__":
        target = resolve(proxy)
        if not isinstance(target, type):
            return getattr(target, name)
    elif name.startswith(("__array_", "__torch_")):
        # Ours, which unwrap what they are given, but only where the target would have them.
        cls = _class_of(proxy)
        if cls is None:
            raise _missing(proxy, name)
        theirs = getattr(cls, name, _absent)
        if theirs is _absent:
            raise _missing(proxy, name)
        if theirs is None:
            return None
    return _get(proxy, name)


def answer_unresolved(proxy: Any, name: str) -> Any:
    """Return an attribute of an unresolved proxy, resolving it only if the class cannot tell."""
    if name.startswith(_DISPLAY):
        if name in _SHOWN:
            return _get(proxy, name)
        raise _missing(proxy, name)
    about = _get(proxy, "_isthmus_about")
    if about is not None and name.startswith("__") and name.endswith("__"):
        cls = load_class(about)
        if cls is None:
            if name == "__class__":
                return public(type(proxy))
            if name == "__module__":
                return about.module
            if name.startswith(_PROBES):
                raise _missing(proxy, name)
        elif name == "__class__":
            return cls
        elif name.startswith(_PROBES) or not _keeps_names(cls):
            value = _in_class(cls, name)
            if isinstance(value, str):
                return value  # __module__, __doc__
            if value is _absent and not hasattr(cls, "__getattr__"):
                raise _missing(proxy, name)
    if about is None and (name == "__class__" or name.startswith(_PROBES)) and asked_by_engine():
        if name == "__class__":
            return public(type(proxy))
        raise _missing(proxy, name)
    return getattr(resolve(proxy), name)


def _keeps_names(cls: type) -> bool:
    return any(base.__name__ in _NAMESPACES for base in cls.__mro__)


def _class_of(proxy: Any) -> type | None:
    try:
        target = _get(proxy, "_isthmus_target")
    except AttributeError:
        about = _get(proxy, "_isthmus_about")
        if about is not None:
            return load_class(about)
        target = resolve(proxy)
    return type(target)


def _in_class(cls: type, name: str) -> Any:
    for base in cls.__mro__:
        if name in base.__dict__:
            return base.__dict__[name]
    return _absent


def _missing(proxy: Any, name: str) -> AttributeError:
    about = _get(proxy, "_isthmus_about")
    kind = about.qualname if about is not None else type(proxy).__name__
    return AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=proxy)
