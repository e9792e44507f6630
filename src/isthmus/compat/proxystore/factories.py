"""Factories for proxies that no store made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Factory", "LambdaFactory", "SimpleFactory"]

T = TypeVar("T")


class Factory(Generic[T]):
    """What a proxy calls for its target; subclasses say what `resolve` returns."""

    def __call__(self) -> T:
        """Return the target."""
        return self.resolve()

    def resolve(self) -> T:
        """Return the target."""
        raise TypeError(f"{type(self).__name__} has to define resolve(self)")


class SimpleFactory(Factory[T]):
    """Returns the object that it was made of, which travels with it."""

    def __init__(self, obj: T) -> None:
        self._obj = obj

    def resolve(self) -> T:
        """Return the object."""
        return self._obj


class LambdaFactory(Factory[T]):
    """Calls a function with the given arguments."""

    def __init__(self, target: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        self._target = target
        self._args = args
        self._kwargs = kwargs

    def resolve(self) -> T:
        """Return what the function returns."""
        return self._target(*self._args, **self._kwargs)
