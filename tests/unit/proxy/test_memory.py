"""No references lost and none too many, on the paths that are used most."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from types import ModuleType
from typing import Any

import numpy as np
import pytest


class Target:
    attribute = "x"

    def __init__(self) -> None:
        self.items: dict[object, object] = {}

    def method(self) -> None: ...

    def __add__(self, other: object) -> object:
        return self

    def __iadd__(self, other: object) -> object:
        return self

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: object) -> object:
        return self.items.get(key, key)

    def __setitem__(self, key: object, value: object) -> None:
        self.items[key] = value

    def __contains__(self, item: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self

    def __enter__(self) -> object:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def __round__(self, digits: int = 0) -> object:
        return self

    def __get__(self, instance: object, owner: type | None = None) -> object:
        return self


class Made:
    def __init__(self, target: object) -> None:
        self.target = target

    def __call__(self) -> object:
        return self.target


def fail() -> object:
    raise ValueError("no")


def attempt(p: Any) -> None:
    try:
        len(p)
    except ValueError:
        return


def use(px: ModuleType, target: Any, key: Any) -> None:
    """What a program does with a proxy, from birth to death."""
    p = px.Proxy(Made(target), px.TargetClass.of(type(target)))
    assert p.__class__ is Target
    assert not hasattr(p, "__dask_graph__")
    repr(p)
    px.resolve(p)
    px.extract(p)
    px.get_factory(p)
    px.target_class(p)
    assert p.attribute
    p.method()
    assert not hasattr(p, "missing")
    p.extra = key
    del p.extra
    p + key
    key + p if hasattr(key, "__add__") else None
    q = p
    q += key
    p == key  # noqa: B015
    len(p), bool(p), key in p, list(p), hash(p), str(p), f"{p}"
    p[key]
    p[key] = key
    p(key, named=key)
    with p:
        pass
    round(p, 1)
    copy.copy(p)
    weakref.ref(p)
    plain = px.Proxy(Made(target))  # its type changes when it resolves
    len(plain)
    attempt(px.Proxy(fail))
    px.Proxy[int](Made(target))


def test_using_a_proxy_leaves_no_references(px: ModuleType) -> None:
    target, key = Target(), object()

    def counts() -> list[int]:
        gc.collect()
        kinds = [
            type(px.Proxy(Made(target))),
            type(px.Proxy(Made(target), px.TargetClass.of(target))),
        ]
        return [sys.getrefcount(x) for x in (target, key, None, px.Proxy, *kinds)][:2] + [
            sys.getrefcount(kind) for kind in kinds
        ]

    use(px, target, key)
    before = counts()
    for _ in range(50):
        use(px, target, key)
    assert counts() == before


def test_using_a_proxy_leaves_no_memory(px: ModuleType) -> None:
    """Objects that the collector does not see count too: the blocks of the allocator."""
    target, key = Target(), object()

    def blocks(rounds: int) -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        for _ in range(rounds):
            use(px, target, key)
        gc.collect()
        return sys.getallocatedblocks() - before

    blocks(100)
    assert min(blocks(100) for _ in range(3)) < 50  # one a round would be a hundred


def test_arrays_leave_no_references(px: ModuleType) -> None:
    x = np.arange(4.0)
    p = px.Proxy(lambda: x)
    px.resolve(p)

    def round_() -> None:
        np.add(p, p, out=p)
        np.add.reduce(p)
        np.sum(p)
        np.concatenate([p, p])
        if px.implementation == "c":
            memoryview(p).release()
            np.frombuffer(p)
        with pytest.raises(TypeError):
            np.add(p, "text")
        pickle.dumps(px.Proxy(fail))

    round_()
    gc.collect()
    before = sys.getrefcount(x), sys.getrefcount(p)
    for _ in range(20):
        round_()
    gc.collect()
    assert (sys.getrefcount(x), sys.getrefcount(p)) == before


def test_cycles_through_a_proxy_are_collected(px: ModuleType) -> None:
    class Node: ...

    node = Node()
    gone = weakref.ref(node)
    node.proxy = px.Proxy(lambda node=node: node)  # type: ignore[attr-defined]
    px.resolve(node.proxy)  # type: ignore[attr-defined]
    node = None  # type: ignore[assignment]
    gc.collect()
    assert gone() is None


def test_an_error_does_not_keep_the_proxy(px: ModuleType) -> None:
    p = px.Proxy(fail)
    gone = weakref.ref(p)
    attempt(p)
    del p
    assert gone() is None, "an error's traceback and the attempt hold each other"


def test_a_long_chain_is_released(px: ModuleType) -> None:
    """Proxy in list in proxy in list: deeper than C's stack would bear if every level took a frame."""
    chain: Any = []
    for _ in range(200_000):
        p = px.Proxy(Made([chain]))
        px.resolve(p)
        chain = p
    del p, chain


def test_a_long_chain_of_factories_is_released(px: ModuleType) -> None:
    """Proxies call other proxies with nothing in between that would take care of the depth."""
    chain: Any = Made(None)
    for _ in range(1_000_000):
        chain = px.Proxy(chain)
    del chain


def test_the_size_of_a_proxied_class(px: ModuleType) -> None:
    p = px.Proxy(lambda: int)
    px.resolve(p)
    assert sys.getsizeof(p) >= type(int).__sizeof__(int)
