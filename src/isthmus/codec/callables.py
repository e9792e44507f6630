"""Serializers and the like travel by importable name, or by value where there is none."""

from __future__ import annotations

import base64
import sys
import warnings
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from isthmus.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ByValueWarning", "load_callable", "pack_callable"]

_BY_VALUE = "by-value:"
_MAINS = ("__main__", "__mp_main__")
_warned: set[tuple[str, str]] = set()


class ByValueWarning(UserWarning):
    """A callable travels whole because its consumer could not import it."""


def pack_callable(fn: Callable[..., Any]) -> str:
    """Return ``"module:qualname"`` if that leads to `fn` in any process, else `fn` by value.

    The latter is ``"by-value:"`` and base 64: text, so that any configuration format can hold it.

    Warns:
        ByValueWarning: once for each callable that travels by value, with its size.

    Raises:
        TypeError: it cannot be called.
        CodecError: it has no name and cannot travel by value either.
    """
    if not callable(fn):
        raise TypeError(f"a function is needed, not {fn!r} of type {type(fn).__name__}")
    name = _name(fn)
    if name:
        return name
    from isthmus.codec import serialize

    packed = _BY_VALUE + base64.b64encode(serialize(fn)).decode()
    if isinstance(fn, partial) and _name(fn.func):
        return packed  # a name and the arguments, which have to travel
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    label = (str(module), str(qualname or type(fn).__qualname__))
    if label not in _warned:
        _warned.add(label)
        warnings.warn(
            f"{label[1]!r} of {label[0]} travels by value, {len(packed)} bytes each time, because other "
            "processes cannot import it; define it at the top level of a module to send its name",
            ByValueWarning,
            stacklevel=2,
        )
    return packed


def load_callable(packed: str) -> Callable[..., Any]:
    """Return the callable that `pack_callable` was given.

    Raises:
        CodecError: there is no such module or name here, or it is not callable.
    """
    if not packed.startswith(_BY_VALUE):
        module, _, qualname = packed.partition(":")
        try:
            found: Any = import_module(module)
            for name in qualname.split("."):
                found = getattr(found, name)
        except (ImportError, AttributeError, ValueError) as e:
            raise CodecError(f"cannot import {packed!r}", f"{e}; make it importable here") from e
    else:
        from isthmus.codec import deserialize

        try:
            data = base64.b64decode(packed[len(_BY_VALUE) :], validate=True)
        except ValueError as e:
            raise CodecError("a callable by value is damaged", e) from None
        found = deserialize(data)
    if not callable(found):
        raise CodecError(f"{packed[:60]!r} is a {type(found).__name__}, not a callable")
    return found  # type: ignore[no-any-return]


def _name(fn: Any) -> str:
    """Return the name by which any process can import a callable, an empty string if there is none."""
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    if module and qualname and module not in _MAINS and _resolves(module, qualname, fn):
        return f"{module}:{qualname}"
    return ""


def _resolves(module: str, qualname: str, fn: Any) -> bool:
    found: Any = sys.modules.get(module)
    if getattr(found, "__spec__", None) is None:
        return False  # made at run time: nothing to import
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is fn or (getattr(found, "__self__", None) is not None and bool(found == fn))
