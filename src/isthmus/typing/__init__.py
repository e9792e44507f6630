"""Types and a mypy plugin for code that takes proxies.

``ProxyOr[T]`` is what a function takes that works with an object as well as with its proxy. With
``plugins = ["isthmus.typing.mypy"]`` in its configuration, mypy checks what is done with a proxy exactly
as if it were done with the object.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar, Union

from isthmus.proxy import Proxy

__all__ = ["Proxy", "ProxyOr"]

T = TypeVar("T")

# A Union, not T | Proxy[T]: a TypeVar's | needs both sides at run time, where Proxy may be a C type.
ProxyOr: TypeAlias = Union[T, Proxy[T]]  # noqa: UP007
"""An object of type ``T``, or a proxy of one."""
