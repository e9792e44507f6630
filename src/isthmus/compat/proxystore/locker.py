"""A box around a proxy, so that nothing resolves it by accident."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

from isthmus.proxy import Proxy, is_proxy

__all__ = ["ProxyLocker"]

T = TypeVar("T")


class ProxyLocker(Generic[T]):
    """Holds a proxy until :meth:`unlock`; whatever else is asked of it is refused.

    Raises:
        TypeError: it is given something that is no proxy.
    """

    __slots__ = ("_locked",)

    def __init__(self, proxy: Proxy[T]) -> None:
        if not is_proxy(proxy):
            raise TypeError(f"ProxyLocker takes a proxy, not a {type(proxy).__name__}")
        self._locked = proxy

    def unlock(self) -> Proxy[T]:
        """Return the proxy."""
        return self._locked

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name!r} of a locked proxy; call unlock() first")

    def __repr__(self) -> str:
        return f"<ProxyLocker of {self._locked!r}>"
