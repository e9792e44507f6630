"""Proxies that have their target where they were made."""

from __future__ import annotations

from typing import Any, TypeVar

from isthmus.proxy import Proxy, TargetClass, get_factory, resolve
from isthmus.store import StoreFactory

__all__ = ["populated"]

T = TypeVar("T")


def populated(proxy: Proxy[T], target: T) -> Proxy[T]:
    """Return a store's proxy of `target` that is resolved already; what evicts, evicts elsewhere only."""
    factory: Any = get_factory(proxy)
    made = Proxy(_Populated(factory, target), TargetClass.of(target))
    resolve(made)
    return made


class _Populated(StoreFactory[T]):
    """The factory of a proxy that has its target already; it travels as the factory that it was made of."""

    __slots__ = ("_target",)

    def __init__(self, factory: StoreFactory[T], target: T) -> None:
        super().__init__(
            factory.identity,
            factory.key,
            evict=factory.evict,
            made=factory.made,
            store=factory.store,
        )
        self._target = target

    def __call__(self) -> T:
        return self._target
