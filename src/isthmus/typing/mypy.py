"""A mypy plugin to which ``Proxy[T]`` is ``T``.

mypy has no intersection types, and no plugin may say what is a subtype of what. But a proxy has no
interface of its own: its attributes, its operators and its answers to ``isinstance`` are its target's, and
the helpers are functions. So the exact description of a proxy is its target's type, and the plugin reads it
so in every annotation. One direction is lost: a plain ``T`` passes where a ``Proxy[T]`` was asked for.

Enable it in ``pyproject.toml``::

    [tool.mypy]
    plugins = ["isthmus.typing.mypy"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy.plugin import AnalyzeTypeContext, ClassDefContext, FunctionContext, Plugin
from mypy.types import AnyType, Instance, Type, TypeOfAny, get_proper_type

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ProxyPlugin", "plugin"]

PROXIES = frozenset(
    {"isthmus.proxy.Proxy", "isthmus.proxy._pure.Proxy", "isthmus.proxy._proxy.Proxy"}
)


class ProxyPlugin(Plugin):
    """Reads ``Proxy[T]`` as ``T``, in annotations and where a proxy is made."""

    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        """Annotations: ``Proxy[T]`` is ``T``, a bare ``Proxy`` is ``Any``."""
        return _read_annotation if fullname in PROXIES else None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        """``Proxy(factory)`` is what the factory returns."""
        return _read_call if fullname in PROXIES else None

    def get_customize_class_mro_hook(
        self, fullname: str
    ) -> Callable[[ClassDefContext], None] | None:
        """The class itself, which only ``isinstance`` brings up, may do anything."""
        return _allow_anything if fullname in PROXIES else None


def _read_annotation(context: AnalyzeTypeContext) -> Type:
    args = context.type.args
    if not args:
        return AnyType(TypeOfAny.from_omitted_generics)
    if len(args) > 1:
        context.api.fail(f'"Proxy" expects 1 type argument, but {len(args)} given', context.context)
    return context.api.analyze_type(args[0])


def _read_call(context: FunctionContext) -> Type:
    made = get_proper_type(context.default_return_type)
    if isinstance(made, Instance) and made.type.fullname in PROXIES and made.args:
        return made.args[0]
    return context.default_return_type


def _allow_anything(context: ClassDefContext) -> None:
    context.cls.info.fallback_to_any = True


def plugin(version: str) -> type[Plugin]:
    """Return the plugin; what mypy calls."""
    return ProxyPlugin
