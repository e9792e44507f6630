"""Pickling takes the factory only; copies keep what is resolved."""

from __future__ import annotations

import copy
import pickle
import weakref
from types import ModuleType
from typing import Any

import pytest


class Box:
    """A factory with a state."""

    def __init__(self, obj: object) -> None:
        self.obj = obj
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        return self.obj


class Compact(Box):
    """A factory with a wire form of its own, as a store's."""

    def __proxy_reduce__(self, about: Any) -> tuple[object, ...]:
        return rebuild, (self.obj, about)


def rebuild(obj: object, about: Any) -> object:
    import isthmus.proxy

    return isthmus.proxy.Proxy(Compact(obj), about)


def large() -> bytes:
    return bytes(100_000)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_the_factory_only(px: ModuleType, protocol: int) -> None:
    about = px.TargetClass.of(bytes)
    p = px.Proxy(large, about)
    px.resolve(p)
    data = pickle.dumps(p, protocol)
    assert len(data) < 250
    q = pickle.loads(data)
    assert type(q).__mro__[1] is px.Proxy
    assert not px.is_resolved(q)
    assert px.get_factory(q) is large
    assert px.target_class(q) == about
    assert type(px.target_class(q)) is px.TargetClass
    assert q == p


def test_a_factory_s_type_chooses_the_wire_form(px: ModuleType) -> None:
    p = px.Proxy(Compact("x"), px.TargetClass.of(str))
    assert p.__reduce_ex__(5) == (rebuild, ("x", px.target_class(p)))
    q = pickle.loads(pickle.dumps(p))
    assert q == "x"
    assert px.target_class(q) == px.target_class(p)


def test_copy_and_deepcopy_of_a_resolved_proxy_are_resolved(px: ModuleType) -> None:
    inner = [1]
    box = Box([inner, 2])
    p = px.Proxy(box)
    px.resolve(p)
    shallow, deep = copy.copy(p), copy.deepcopy(p)
    for twin in (shallow, deep):
        assert isinstance(twin, px.Proxy)
        assert px.is_resolved(twin)
        assert twin == p
        assert px.extract(twin) is not px.extract(p)
        assert px.get_factory(twin) is box
    assert shallow[0] is inner
    assert deep[0] is not inner
    assert box.calls == 1


def test_deepcopy_of_a_target_that_holds_its_proxy(px: ModuleType) -> None:
    target: list[object] = []
    p = px.Proxy(lambda: target)
    target.append(p)
    px.resolve(p)
    q = copy.deepcopy(p)
    assert q[0] is q
    assert px.extract(q) is not target


def test_deepcopy_shares_a_proxy_that_is_there_twice(px: ModuleType) -> None:
    p = px.Proxy(Box([1]))
    a, b = copy.deepcopy([p, p])
    assert a is b


def test_a_weak_reference_is_to_the_proxy(px: ModuleType) -> None:
    p = px.Proxy(Box([1]))
    reference = weakref.ref(p)
    assert reference() is p
    px.resolve(p)  # which changes the type
    assert reference() is p
    called: list[object] = []
    weakref.finalize(p, called.append, "gone")
    del p
    assert reference() is None
    assert called == ["gone"]


def test_proxies_as_weak_keys(px: ModuleType) -> None:
    p = px.Proxy(Box("key"))
    table: Any = weakref.WeakKeyDictionary({p: 1})
    assert table[p] == 1
    del p
    assert not table
