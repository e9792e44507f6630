"""The type of a proxy: subclasses, shapes, the helpers, listing 3.2."""

from __future__ import annotations

import abc
import copy
import enum
import gc
import importlib
import os
import pickle
import subprocess
import sys
import threading
import types
import typing
import weakref
from types import ModuleType
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

from isthmus.proxy import _shape

T = TypeVar("T")


class ClassFactory(Generic[T]):
    """Listing 3.2 has the syntax of 3.12 here."""

    def __init__(self, obj: T) -> None:
        self.obj = obj

    def __call__(self) -> T:
        return self.obj


def test_listing_3_2(px: ModuleType) -> None:
    def factory_function() -> list[int]:
        return [1, 2, 3]

    p = px.Proxy(factory_function)
    assert p == [1, 2, 3]

    x = np.array([1, 2, 3])
    p = px.Proxy(ClassFactory(x))
    assert isinstance(p, px.Proxy)
    assert isinstance(p, np.ndarray)
    assert np.array_equal(p, [1, 2, 3])
    assert np.sum(p) == 6
    y = x + p
    assert np.array_equal(y, [2, 4, 6])


def test_the_bits_of_a_shape_are_the_same_in_c() -> None:
    c = pytest.importorskip("isthmus.proxy._proxy", exc_type=ImportError)
    assert c.BITS == _shape.BITS
    assert len(set(_shape.BITS)) == len(_shape.BITS) <= 64


class Refuses:
    __iter__ = None
    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, key: object) -> object:
        return key


@pytest.mark.parametrize(
    ("cls", "has", "lacks"),
    [
        (
            int,
            "__int__ __index__ __hash__ __abs__",
            "__len__ __iter__ __call__ __complex__ __fspath__",
        ),
        (dict, "__len__ __getitem__ match\tmapping", "sequence\titem match\tsequence __hash__"),
        (list, "sequence\titem match\tsequence __reversed__", "__hash__ __next__ __buffer__"),
        (bytes, "__buffer__ __hash__ sequence\titem", "__setitem__"),
        (np.ndarray, "__buffer__ __setitem__ sequence\titem", "__hash__"),
        (type, "__call__ __getitem__ __hash__", "__get__ __iter__"),
        (types.FunctionType, "__call__ __get__", "__set__ __len__"),
        (property, "__get__ __set__ __delete__", "__call__"),
        (Refuses, "__getitem__ sequence\titem", "__iter__ __hash__"),
        (type(None), "__hash__", "__len__ __call__"),
    ],
)
def test_the_shape_of_a_class(cls: type, has: str, lacks: str) -> None:
    shape = _shape.shape_of(cls)
    for name in has.split(" "):
        assert shape & _shape.bit(name.replace("\t", " ")), name
    for name in lacks.split(" "):
        assert not shape & _shape.bit(name.replace("\t", " ")), name


def test_what_is_no_class_has_no_shape() -> None:
    c = pytest.importorskip("isthmus.proxy._proxy", exc_type=ImportError)
    for question in (c.has_buffer, c.has_sequence_item):
        with pytest.raises(TypeError, match="expected a class"):
            question("abc")


def test_a_class_may_be_unhashable(px: ModuleType) -> None:
    class Comparing(type):
        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Plain(metaclass=Comparing):
        def __len__(self) -> int:
            return 3

    assert len(px.Proxy(Plain)) == 3


@pytest.mark.parametrize("name", [1, b"__abcdefgh", {}, (1,) * 9])
def test_a_name_that_is_no_string_is_refused(px: ModuleType, name: Any) -> None:
    p = px.Proxy(lambda: [1])
    px.resolve(p)
    with pytest.raises(TypeError):
        type(p).__getattribute__(p, name)
    with pytest.raises(TypeError):
        type(p).__setattr__(p, name, 1)


@pytest.mark.parametrize("obj", [1, "a", [1], {}, len, int, np.zeros(1), iter([]), object()])
def test_a_told_shape_is_the_shape_after_resolving(px: ModuleType, obj: object) -> None:
    told = px.Proxy(lambda: obj, px.TargetClass.of(type(obj)))
    plain = px.Proxy(lambda: obj)
    before = type(told)
    px.resolve(told)
    px.resolve(plain)
    assert type(told) is type(plain) is before


def test_a_wrong_shape_is_corrected_when_resolved(px: ModuleType) -> None:
    p = px.Proxy(lambda: [1], px.TargetClass("builtins", "int", 0))
    assert p == [1]
    assert len(p) == 1
    assert p.__class__ is list


def test_bits_of_a_newer_version_are_ignored(px: ModuleType) -> None:
    about = px.TargetClass.of(list)
    p = px.Proxy(lambda: [1], about._replace(shape=about.shape | 1 << 60))
    assert len(p) == 1


def test_helpers_take_objects_that_are_no_proxies(px: ModuleType) -> None:
    x = [1]
    assert px.extract(x) is x
    assert px.resolve(x) is None
    assert not px.is_proxy(x)
    assert not px.is_proxy(px.Proxy)
    assert px.is_proxy(px.Proxy(list))
    for helper in (px.is_resolved, px.get_factory, px.target_class):
        with pytest.raises(TypeError, match=r"expected a proxy, got \[1\] of type list"):
            helper(x)


def test_helpers(px: ModuleType) -> None:
    x = [1]
    factory = ClassFactory(x)
    p = px.Proxy(factory)
    assert not px.is_resolved(p)
    assert px.target_class(p) is None
    assert px.resolve(p) is None
    assert px.is_resolved(p)
    assert px.extract(p) is x
    assert px.get_factory(p) is factory


def test_about_by_name(px: ModuleType) -> None:
    p = px.Proxy(factory=list, about=px.TargetClass.of([]))
    assert px.target_class(p) == ("builtins", "list", _shape.shape_of(list))
    with pytest.raises(TypeError):
        px.Proxy(list, None, 3)
    with pytest.raises(TypeError):
        px.Proxy(list, unknown=3)
    with pytest.raises(TypeError):
        px.Proxy()


def test_subscripts_are_for_annotations(px: ModuleType) -> None:
    alias = px.Proxy[int]
    assert alias.__origin__ is px.Proxy
    assert alias.__args__ == (int,)
    p = alias(lambda: 5)
    assert not px.is_resolved(p)  # it offered its alias to the proxy, which is no use of it
    assert p == 5


def test_a_subclass_has_attributes_of_its_own(px: ModuleType) -> None:
    class Owned(px.Proxy[T]):  # type: ignore[misc,name-defined]
        """A user's proxy."""

        __slots__ = ("lease",)

        def renew(self) -> int:
            self.lease += 1
            return self.lease  # type: ignore[no-any-return]

        @property
        def left(self) -> int:
            return 10 - self.lease  # type: ignore[no-any-return]

    p = Owned(lambda: [3, 1, 2])
    p.lease = 1
    assert p.renew() == 2
    assert p.left == 8
    assert not px.is_resolved(p)
    assert len(p) == 3
    p.sort()
    assert p == [1, 2, 3]
    assert p.lease == 2
    assert p + [4] == [1, 2, 3, 4]  # noqa: RUF005
    assert isinstance(p, list)
    assert isinstance(p, Owned)
    assert isinstance(p, px.Proxy)
    assert type(p).__name__ == "Owned"
    assert not callable(p)
    assert p.__doc__ == list.__doc__
    del p.lease
    with pytest.raises(AttributeError):
        p.lease
    about = px.TargetClass.of(dict)
    assert isinstance(Owned(dict, about), dict)
    assert type(copy.copy(p)).__mro__[1] is Owned


class Leased(importlib.import_module("isthmus.proxy").Proxy):  # type: ignore[misc]
    """At module level, to be pickled; of the implementation that runs."""

    made = False  # what a subclass does not name is the target's

    def __init__(self, factory: Any, about: Any = None) -> None:
        self.made = True

    def __repr__(self) -> str:
        return "<leased>"

    def __len__(self) -> int:
        return 99


def test_a_subclass_overrides_and_pickles() -> None:
    p = Leased(list)
    assert p.made
    assert repr(p) == "<leased>"
    assert len(p) == 99
    q = pickle.loads(pickle.dumps(p))
    assert isinstance(q, Leased)
    assert q == []
    assert q.made


def test_a_subclass_and_its_kin_are_collected(px: ModuleType) -> None:
    class Short(px.Proxy):  # type: ignore[misc,name-defined]
        pass

    assert Short(list) == []
    reference = weakref.ref(Short)
    del Short
    gc.collect()
    assert reference() is None


def test_metaclasses_of_subclasses_are_kept(px: ModuleType) -> None:
    class Abstract(px.Proxy, abc.ABC):  # type: ignore[misc,name-defined]
        pass

    p = Abstract(list, px.TargetClass.of(list))
    assert isinstance(p, Abstract)
    assert type(type(p)) is abc.ABCMeta
    assert p == []


def test_calling_the_type_of_a_proxy_makes_a_proxy(px: ModuleType) -> None:
    p = type(px.Proxy(list, px.TargetClass.of(list)))(dict)
    assert p == {}
    assert not isinstance(p, list)


def test_in_place_leaves_aliases_alone(px: ModuleType) -> None:
    p = alias = px.Proxy(lambda: 5)
    p += 1
    assert (p, alias) == (6, 5)
    assert type(p) is int
    p = alias = px.Proxy(lambda: [5])
    p += [6]
    assert p is alias
    assert px.extract(p) == [5, 6]
    p = alias = px.Proxy(lambda: np.zeros(2))
    p += px.Proxy(lambda: 1)
    assert p is alias
    assert p.tolist() == [1, 1]


def test_a_proxied_class_acts_as_a_class(px: ModuleType) -> None:
    class Base:
        def hello(self) -> str:
            return "hello"

    p = px.Proxy(lambda: Base)

    class Derived(p):  # type: ignore[misc,valid-type]
        pass

    assert Derived.__bases__ == (Base,)
    assert isinstance(Derived(), p)
    assert issubclass(Derived, p)
    assert issubclass(px.Proxy(lambda: Derived), p)
    assert p().hello() == "hello"
    with pytest.raises(TypeError):
        isinstance(3, px.Proxy(lambda: 3))


def test_a_proxied_descriptor_describes(px: ModuleType) -> None:
    def method(self: Any) -> object:
        return self

    about = px.TargetClass.of(method)

    class Holder:
        called = px.Proxy(lambda: method, about)
        computed = px.Proxy(lambda: property(method), px.TargetClass.of(property))
        plain = px.Proxy(lambda: method)  # unknown: a descriptor once it is resolved

    holder = Holder()
    assert holder.called() is holder
    assert holder.computed is holder
    px.resolve(Holder.__dict__["plain"])
    assert holder.plain() is holder
    with pytest.raises(AttributeError):
        holder.computed = 3  # type: ignore[misc]


def test_interned_members_and_keywords_pass(px: ModuleType) -> None:
    class Shade(enum.Enum):
        DARK = px.Proxy(lambda: 1)

    assert Shade.DARK.value == 1
    f = px.Proxy(lambda: lambda *args, **kwargs: (args, kwargs))
    assert f(1, *[2], a=3, b=4) == ((1, 2), {"a": 3, "b": 4})


def test_runtime_protocols_are_answered(px: ModuleType) -> None:
    @typing.runtime_checkable
    class Named(typing.Protocol):
        def title(self) -> str: ...

    for about in (None, px.TargetClass.of(str)):
        assert isinstance(px.Proxy(lambda: "a", about), Named)
    assert not isinstance(px.Proxy(lambda: 5), Named)


def test_types_are_made_once_by_many_threads(px: ModuleType) -> None:
    about = px.TargetClass("nowhere", "Nothing", 0x1234 | hash(px.implementation) & 0xF0000)
    seen: set[type] = set()
    start = threading.Barrier(8)

    def make() -> None:
        start.wait(20)
        seen.update(type(px.Proxy(list, about)) for _ in range(20))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == 1


@pytest.mark.parametrize(("value", "expected"), [("1", "python"), ("0", None), ("", None)])
def test_the_environment_chooses_the_twin(value: str, expected: str | None) -> None:
    code = (
        "import isthmus.proxy as p; print(p.implementation, p.Proxy.__module__, p.Proxy(int) + 1)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ISTHMUS_PURE_PROXY": value},
        capture_output=True,
        text=True,
        check=True,
    )
    has_c = importlib.util.find_spec("isthmus.proxy._proxy") is not None
    assert run.stdout.split() == [expected or ("c" if has_c else "python"), "isthmus.proxy", "1"]


def test_an_extension_of_other_sources_gives_way_to_the_twin() -> None:
    c = pytest.importorskip("isthmus.proxy._proxy", exc_type=ImportError)
    code = f"""
import sys, types
stale = types.ModuleType("isthmus.proxy._proxy")
stale.ABI = {c.ABI - 1}
sys.modules[stale.__name__] = stale
import isthmus.proxy
print(isthmus.proxy.implementation)
"""
    # Also where this suite itself asked for the twin: it is the extension that is looked at.
    env = {k: v for k, v in os.environ.items() if k != "ISTHMUS_PURE_PROXY"}
    run = subprocess.run(
        [sys.executable, "-W", "always", "-c", code],
        capture_output=True, text=True, check=True, env=env,
    )  # fmt: skip
    assert run.stdout.split() == ["python"]
    assert "RuntimeWarning" in run.stderr
    assert "rebuild" in run.stderr


def test_a_subinterpreter_gets_the_twin() -> None:
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    code = f"""
import {module} as interpreters, isthmus.proxy
other = interpreters.create()
interpreters.run_string(other, "import sys; sys.path[:] = {sys.path!r}; import isthmus.proxy as p; "
    "assert p.implementation == 'python'; assert p.Proxy(list) == []")
assert isthmus.proxy.Proxy(list) == []
interpreters.destroy(other)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
