"""Proxy, the twin in Python: for where no compiler was, and to check the C implementation against.

The forwarding methods are generated from the tables below, one function each without a loop, a lookup by
name or a call in between: that is what keeps them fast. ``docs/guide/proxies.md`` lists the few things
that only C can do.
"""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from isthmus.proxy._answers import OWN, answer, answer_unresolved, is_own
from isthmus.proxy._kin import kin, roots
from isthmus.proxy._methods import METHODS, without_method
from isthmus.proxy._once import resolve as _resolve
from isthmus.proxy._shape import FULL, UNKNOWN, bit

if TYPE_CHECKING:
    from isthmus.proxy._about import TargetClass

__all__ = [
    "Proxy",
    "extract",
    "get_factory",
    "is_proxy",
    "is_resolved",
    "resolve",
    "target_class",
]

T = TypeVar("T")

# In the templates `target` is the target and `other` the other operand, bare.
_UNARY = {
    "__neg__": "-target",
    "__pos__": "+target",
    "__invert__": "~target",
    "__bool__": "True if target else False",
    "__str__": "str(target)",
    "__hash__": "hash(target)",
}
_BINARY = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "matmul": "@",
    "truediv": "/",
    "floordiv": "//",
    "mod": "%",
    "lshift": "<<",
    "rshift": ">>",
    "and": "&",
    "xor": "^",
    "or": "|",
    "pow": "**",
}
_COMPARISONS = {"lt": "<", "le": "<=", "eq": "==", "ne": "!=", "gt": ">", "ge": ">="}
# What only a proxy of the right shape has.
_SHAPED = {
    "__len__": "(self): len(target)",
    "__getitem__": "(self, key): target[key]",
    "__setitem__": "(self, key, value): operator.setitem(target, key, value)",
    "__delitem__": "(self, key): operator.delitem(target, key)",
    "__contains__": "(self, item): bare(item) in target",
    "__iter__": "(self): iter(target)",
    "__next__": "(self): next(target)",
    "__reversed__": "(self): reversed(target)",
    "__call__": "(self, /, *args, **kwargs): target(*args, **kwargs)",
    "__buffer__": "(self, flags): memoryview(target)",
    "__int__": "(self): int(target)",
    "__float__": "(self): float(target)",
    "__index__": "(self): operator.index(target)",
    "__complex__": "(self): complex(target)",
    "__abs__": "(self): abs(target)",
    "__round__": "(self, *digits): round(target, *digits)",
    "__trunc__": "(self): math.trunc(target)",
    "__floor__": "(self): math.floor(target)",
    "__ceil__": "(self): math.ceil(target)",
    "__bytes__": "(self): bytes(target)",
    "__fspath__": "(self): os.fspath(target)",
    "__enter__": "(self): method(target, '__enter__')()",
    "__exit__": "(self, *exc): method(target, '__exit__')(*exc)",
    "__aenter__": "(self): method(target, '__aenter__')()",
    "__aexit__": "(self, *exc): method(target, '__aexit__')(*exc)",
    "__await__": "(self): method(target, '__await__')()",
    "__aiter__": "(self): aiter(target)",
    "__anext__": "(self): anext(target)",
    "__length_hint__": "(self): operator.length_hint(target)",
    "__get__": "(self, instance, owner=None): target.__get__(instance, owner)",
    "__set__": "(self, instance, value): target.__set__(instance, value)",
    "__delete__": "(self, instance): target.__delete__(instance)",
}

_BY_ITEMS = [
    "__iter__",
    "__contains__",
    "__reversed__",
]  # what Python does by __getitem__ if it must

_BODY = """
def {name}{parameters}:
    try:
        target = get_target(self)
    except AttributeError:
        target = resolve(self)
    {statements}
"""


def _methods(table: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Compile `{name: (parameters, statements)}` to functions."""
    source = "".join(
        _BODY.format(name=name, parameters=parameters, statements=statements)
        for name, (parameters, statements) in table.items()
    )
    namespace: dict[str, Any] = {
        "get_target": _get_target,
        "resolve": _resolve,
        "bare": extract,
        "operator": operator,
        "math": math,
        "os": os,
        "method": _method,
    }
    exec(compile(source, f"<forwarding methods of {__name__}>", "exec"), namespace)
    return {name: namespace[name] for name in table}


def _told_shape(about: Any) -> int:
    if isinstance(about, tuple) and len(about) == 3 and isinstance(about[2], int):
        return about[2]
    raise TypeError(f"about is a TargetClass or None, not {about!r}")


def _method(target: Any, name: str) -> Any:
    # `with x` of an object that cannot is a TypeError, where x.__enter__ is an AttributeError.
    return getattr(target, name, None) or without_method(target, name)


def _forwarded() -> dict[str, Any]:
    """The methods of every proxy: arithmetic, comparison, truth, text."""
    table = {name: ("(self)", f"return {text}") for name, text in _UNARY.items()}
    for name, sign in _BINARY.items():
        table[f"__{name}__"] = ("(self, other)", f"return target {sign} other")
        table[f"__r{name}__"] = ("(self, other)", f"return other {sign} target")
        # A target that changed itself stays behind its proxy; see after_inplace in _proxy.c.
        table[f"__i{name}__"] = (
            "(self, other)",
            f"result = target; result {sign}= bare(other); return self if result is target else result",
        )
    for name, sign in _COMPARISONS.items():
        table[f"__{name}__"] = ("(self, other)", f"return target {sign} bare(other)")
    table["__pow__"] = ("(self, other, *modulus)", "return pow(target, other, *map(bare, modulus))")
    table["__rpow__"] = (
        "(self, other, *modulus)",
        "return pow(other, target, *map(bare, modulus))",
    )
    table["__divmod__"] = ("(self, other)", "return divmod(target, other)")
    table["__rdivmod__"] = ("(self, other)", "return divmod(other, target)")
    table["__format__"] = ("(self, spec)", "return format(target, spec)")
    return _methods(table)


class Proxy(Generic[T]):
    """A lazy, transparent stand-in for the object that `factory` returns.

    The factory, any callable without arguments, is called once, at the first use; from then on every
    operation on the proxy is done by its target. Pickling a proxy pickles the factory.

    Args:
        factory: returns the target.
        about: the target's class, so that questions about it need no target.
    """

    __slots__ = ("__weakref__", "_isthmus_about", "_isthmus_factory", "_isthmus_target")

    if TYPE_CHECKING:

        def __init__(self, factory: Callable[[], T], about: TargetClass | None = None) -> None: ...

    def __new__(cls, factory: Callable[[], T], about: TargetClass | None = None) -> Proxy[T]:
        if not callable(factory):
            raise TypeError(
                "a proxy needs a factory, a callable without arguments that returns the target; got "
                f"{factory!r} of type {type(factory).__name__}"
            )
        shape = UNKNOWN if about is None else _told_shape(about)
        kind = _known_kin.get(shape) if cls is Proxy else None
        self: Proxy[T] = object.__new__(kind or kin(cls, shape))
        _set_factory(self, factory)
        _set_about(self, about)
        return self

    def __getattribute__(self, name: str) -> Any:
        if name in OWN:
            return answer(self, name)
        try:
            return getattr(_get_target(self), name)
        except AttributeError:
            if is_resolved(self):
                raise
        return answer_unresolved(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "__orig_class__":  # offered by `Proxy[int](factory)`, not the target's business
            raise AttributeError(name)
        setattr(extract(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(extract(self), name)

    def _isthmus_settle(self, target: T) -> None:
        if not is_resolved(self):
            _set_target(self, target)

    def _isthmus_unsettle(self) -> Any:
        try:
            target = _get_target(self)
        except AttributeError:
            return None
        _delete_target(self)
        return target

    @staticmethod
    def _isthmus_make(shape: int) -> type:
        """Make one kin: a class below Proxy with the special methods of a shape."""
        if shape == UNKNOWN:
            shape = FULL
        namespace: dict[str, Any] = {
            name: method for name, method in _SHAPED_METHODS.items() if shape & bit(name)
        }
        if not shape & bit("__hash__"):
            namespace["__hash__"] = None
        if not shape & bit("sequence item"):
            # Or Python would iterate by __getitem__, which a class in C may have without being iterable.
            refused = ["__reversed__"] if shape & bit("__iter__") else _BY_ITEMS
            namespace.update((name, None) for name in refused if name not in namespace)
        if shape & bit("__dataclass_fields__"):
            namespace[
                "__dataclass_fields__"
            ] = {}  # on the type for asdict, on the object for its use
        if sys.version_info < (3, 12) and shape & bit("__buffer__"):
            # Python would make bytes of the items, of an array of floats not its bytes.
            namespace.setdefault("__bytes__", _SHAPED_METHODS["__bytes__"])
        namespace.update(__module__=Proxy.__module__, __doc__=Proxy.__doc__, __slots__=())
        made = type("Proxy", (Proxy,), namespace)
        # Registering sets the flag that `match` looks at, and nothing else does from Python.
        if shape & bit("match sequence"):
            Sequence.register(made)
        elif shape & bit("match mapping"):
            Mapping.register(made)
        return made


_known_kin: dict[int, type] = {}  # the table that kin() keeps for Proxy
_get = object.__getattribute__
_get_target: Callable[[Any], Any] = vars(Proxy)["_isthmus_target"].__get__
_set_target: Callable[[Any, Any], None] = vars(Proxy)["_isthmus_target"].__set__
_delete_target: Callable[[Any], None] = vars(Proxy)["_isthmus_target"].__delete__
_set_factory: Callable[[Any, Any], None] = vars(Proxy)["_isthmus_factory"].__set__
_set_about: Callable[[Any, Any], None] = vars(Proxy)["_isthmus_about"].__set__


def is_proxy(obj: object) -> bool:
    """Return whether this is a proxy, without resolving it."""
    return issubclass(type(obj), Proxy)


@overload
def extract(obj: Proxy[T]) -> T: ...
@overload
def extract(obj: T) -> T: ...
def extract(obj: Any) -> Any:
    """Return the bare target of a proxy, resolving it if need be; anything else as it is."""
    if not issubclass(type(obj), Proxy):
        return obj
    try:
        return _get_target(obj)
    except AttributeError:
        return _resolve(obj)


def resolve(obj: Any) -> None:
    """Make sure that a proxy has its target; nothing to do for anything else."""
    extract(obj)


def is_resolved(proxy: Any) -> bool:
    """Return whether a proxy has its target already."""
    _expect(proxy)
    try:
        _get_target(proxy)
    except AttributeError:
        return False
    return True


def get_factory(proxy: Any) -> Callable[[], Any]:
    """Return the factory of a proxy, without resolving it."""
    _expect(proxy)
    factory: Callable[[], Any] = _get(proxy, "_isthmus_factory")
    return factory


def target_class(proxy: Any) -> TargetClass | None:
    """Return what a proxy was told of its target's class, or None."""
    _expect(proxy)
    about: TargetClass | None = _get(proxy, "_isthmus_about")
    return about


def _expect(proxy: Any) -> None:
    if not issubclass(type(proxy), Proxy):
        raise TypeError(f"expected a proxy, got {proxy!r} of type {type(proxy).__name__}")


# A user's subclass may have attributes of its own; only its proxies pay for looking.
def _derived_getattribute(self: Any, name: str) -> Any:
    return _get(self, name) if is_own(self, name) else Proxy.__getattribute__(self, name)


def _derived_setattr(self: Any, name: str, value: Any) -> None:
    if is_own(self, name):
        object.__setattr__(self, name, value)
    else:
        Proxy.__setattr__(self, name, value)


def _derived_delattr(self: Any, name: str) -> None:
    if is_own(self, name):
        object.__delattr__(self, name)
    else:
        Proxy.__delattr__(self, name)


def _finish_class() -> dict[str, Any]:
    """Give Proxy its generated and shared methods; return those that only some kin have."""
    Proxy.__module__ = "isthmus.proxy"
    for name, method in {**METHODS, **_forwarded()}.items():
        setattr(Proxy, name, method)
    Proxy._isthmus_kin = _known_kin  # type: ignore[attr-defined]
    Proxy._isthmus_derived = {  # type: ignore[attr-defined]
        "__getattribute__": _derived_getattribute,
        "__setattr__": _derived_setattr,
        "__delattr__": _derived_delattr,
    }
    roots.append(Proxy)
    shaped = _methods(
        {
            name: (parameters, f"return {text}")
            for name, (parameters, text) in ((n, t.split(": ", 1)) for n, t in _SHAPED.items())
        }
    )
    if sys.version_info < (3, 12):
        del shaped["__buffer__"]  # of no effect there, and a lie
    return shaped


_SHAPED_METHODS = _finish_class()
