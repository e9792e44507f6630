"""Methods that both implementations share: what is rare enough that Python's speed does.

``METHODS`` is put into the namespace of each implementation's Proxy. None of them can be reached by
``p.name`` unless :mod:`isthmus.proxy._answers` says so; the interpreter looks them up on the type.
"""

from __future__ import annotations

import copy as copying
import html
import math
import operator
import os
from types import GenericAlias, MethodType
from typing import TYPE_CHECKING, Any

from isthmus.proxy._about import load_class
from isthmus.proxy._kin import is_proxy, public
from isthmus.proxy._once import describe, resolve, settle

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["METHODS", "unwrap", "without_method"]

_get = object.__getattribute__


def _reduce(self: Any, protocol: int = 2) -> Any:
    """The factory only: a proxy is small whatever its target, and resolves where it arrives."""
    factory = _get(self, "_isthmus_factory")
    about = _get(self, "_isthmus_about")
    compact = getattr(type(factory), "__proxy_reduce__", None)
    kind: Any = type(self)
    if compact is not None and kind.__module__ == "isthmus.proxy":  # not of a user's subclass
        return compact(factory, about)
    return public(kind), ((factory,) if about is None else (factory, about))


def _copy(self: Any) -> Any:
    # The factory is a recipe, not data: a copy shares it, and copies what it made.
    twin = _again(self)
    if _is_resolved(self):
        settle(twin, copying.copy(_get(self, "_isthmus_target")))
    return twin


def _deepcopy(self: Any, memo: dict[int, Any]) -> Any:
    twin = _again(self)
    memo[id(self)] = twin  # before its target, which may contain this very proxy
    if _is_resolved(self):
        settle(twin, copying.deepcopy(_get(self, "_isthmus_target"), memo))
    return twin


def _again(self: Any) -> Any:
    cls: Any = public(type(self))
    return cls.__new__(cls, _get(self, "_isthmus_factory"), _get(self, "_isthmus_about"))


def _is_resolved(self: Any) -> bool:
    try:
        _get(self, "_isthmus_target")
    except AttributeError:
        return False
    return True


def _dir(self: Any) -> list[str]:
    if _is_resolved(self):
        return dir(_get(self, "_isthmus_target"))
    about = _get(self, "_isthmus_about")
    return dir(load_class(about) if about is not None else None)


def _sizeof(self: Any) -> int:
    if _is_resolved(self):
        target = _get(self, "_isthmus_target")
        # As getsizeof looks it up: the target may be a class.
        return int(type(target).__sizeof__(target))  # type: ignore[call-arg]
    return object.__sizeof__(self)


def _repr(self: Any) -> str:
    return repr(_get(self, "_isthmus_target")) if _is_resolved(self) else describe(self)


def _repr_html(self: Any) -> str:
    return f"<code>{html.escape(repr(self))}</code>"


def _repr_mimebundle(self: Any, include: Any = None, exclude: Any = None) -> dict[str, str]:
    # Asked before IPython would print a list's items because `p.__class__` is list.
    return {"text/plain": repr(self), "text/html": _repr_html(self)}


def _dask_tokenize(self: Any) -> Any:
    factory = _get(self, "_isthmus_factory")
    return "isthmus.proxy", type(factory).__dask_tokenize__(factory)


def _mro_entries(self: Any, bases: tuple[Any, ...]) -> tuple[type, ...]:
    return (resolve(self),)


def _instancecheck(self: Any, instance: object) -> bool:
    return isinstance(instance, resolve(self))


def _subclasscheck(self: Any, subclass: type) -> bool:
    return issubclass(unwrap(subclass), resolve(self))


class _OfInstances:
    """A method that a proxy has and its class has not.

    ``ABCMeta`` calls ``cls.__subclasscheck__``, and would find the one for proxies of classes before its
    own if a user's subclass of Proxy is abstract.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._function = function

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return getattr(type(owner), self._name).__get__(owner)
        return MethodType(self._function, instance)


def unwrap(value: Any) -> Any:
    """Return a proxy's target; of lists, tuples and dicts a copy with targets for proxies."""
    if is_proxy(value):
        return resolve(value)
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(map(unwrap, value))
    if kind is dict:
        return {key: unwrap(item) for key, item in value.items()}
    return value


def _array_ufunc(self: Any, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
    return getattr(ufunc, method)(*map(unwrap, inputs), **unwrap(options))


def _array_function(
    self: Any, function: Callable[..., Any], types: Any, args: Any, options: dict[str, Any]
) -> Any:
    return function(*unwrap(tuple(args)), **unwrap(options))


def _torch_function(
    cls: type, function: Callable[..., Any], types: Any, args: Any = (), options: Any = None
) -> Any:
    return function(*unwrap(tuple(args)), **unwrap(options or {}))


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "__reversed__": reversed,
    "__complex__": complex,
    "__round__": round,
    "__trunc__": math.trunc,
    "__floor__": math.floor,
    "__ceil__": math.ceil,
    "__bytes__": bytes,
    "__fspath__": os.fspath,
    "__length_hint__": operator.length_hint,
}


def without_method(target: Any, name: str, *args: Any) -> Any:
    """Do for a target what its special method would, which its class has not.

    Only a proxy of an unknown target comes here: it has every method, and Python has other ways to do
    some of the operations (``complex(7)`` without ``int.__complex__``).
    """
    operation = _OPERATIONS.get(name)
    if operation is None:
        raise TypeError(f"{type(target).__name__!r} object has no {name}")
    return operation(target, *args)


METHODS: dict[str, Any] = {
    "__reduce__": _reduce,
    "__reduce_ex__": _reduce,
    "__copy__": _copy,
    "__deepcopy__": _deepcopy,
    "__repr__": _repr,
    "__dir__": _dir,
    "__sizeof__": _sizeof,
    "__dask_tokenize__": _dask_tokenize,
    "__mro_entries__": _mro_entries,
    "__instancecheck__": _OfInstances("__instancecheck__", _instancecheck),
    "__subclasscheck__": _OfInstances("__subclasscheck__", _subclasscheck),
    "__class_getitem__": classmethod(GenericAlias),
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
    "__torch_function__": classmethod(_torch_function),
    "_repr_html_": _repr_html,
    "_repr_mimebundle_": _repr_mimebundle,
}
