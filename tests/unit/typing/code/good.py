"""What is right about proxies. Checked by mypy with the plugin: there must not be one complaint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

import isthmus
from isthmus.proxy import Proxy, extract, is_resolved, resolve
from isthmus.store import Store
from isthmus.typing import ProxyOr

T = TypeVar("T")


@dataclass
class Point:
    x: int
    y: float

    def scaled(self, by: float) -> Point:
        return Point(self.x, self.y * by)

    @property
    def norm(self) -> float:
        return self.y

    def __add__(self, other: Point) -> Point:
        return other

    def __enter__(self) -> int:
        return self.x

    def __exit__(self, *args: object) -> None: ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        raise NotImplementedError


def attributes(p: Proxy[Point]) -> None:
    assert_type(p.x, int)
    assert_type(p.norm, float)
    assert_type(p.scaled(2), Point)
    p.y = 3.0


def operators(p: Proxy[Point], n: Proxy[int], s: Proxy[str]) -> None:
    assert_type(p + p, Point)
    assert_type(n + 1, int)
    assert_type(1 + n, int)
    assert_type(-n, int)
    assert_type(n < 3, bool)
    assert_type(s % 3, str)
    n += 1


def containers(xs: Proxy[list[int]], d: Proxy[dict[str, bytes]]) -> None:
    assert_type(xs[0], int)
    assert_type(xs[1:], list[int])
    assert_type(len(xs), int)
    assert_type([x + 1 for x in xs], list[int])
    assert_type(d["a"], bytes)
    assert_type(3 in xs, bool)
    xs[0] = 4
    del d["a"]
    first, *rest = xs
    assert_type(first, int)
    assert_type(rest, list[int])


def calls(f: Proxy[Callable[[int], str]], cls: Proxy[type[Point]]) -> None:
    assert_type(f(3), str)
    assert_type(cls(1, 2.0), Point)


def contexts(p: Proxy[Point]) -> None:
    with p as x:
        assert_type(x, int)


async def awaits(a: Proxy[Awaitable[int]], p: Proxy[Point]) -> None:
    assert_type(await a, int)
    async for b in p:
        assert_type(b, bytes)


def takes_target(p: Point) -> float:
    return p.y


def takes_either(p: ProxyOr[Point]) -> float:
    return p.y


def takes_any_of_it(p: ProxyOr[T]) -> T:
    return extract(p)


def passing(point: Point, p: Proxy[Point], xs: Proxy[list[int]]) -> None:
    takes_target(p)
    takes_either(p)
    takes_either(point)
    assert_type(takes_any_of_it(p), Point)
    assert_type(takes_any_of_it(point), Point)
    assert_type(extract(p), Point)
    assert_type(sum(xs), int)
    assert_type(sorted(xs), list[int])
    sized: Sized = xs
    iterable: Iterable[int] = xs
    manager: AbstractContextManager[int] = p
    points: list[Point] = [p, point]
    print(sized, iterable, manager, points)


def making() -> None:
    assert_type(Proxy(lambda: 3), int)
    assert_type(Proxy[str](lambda: "a").upper(), str)
    p: Proxy[Point] = Proxy(lambda: Point(1, 2))
    resolve(p)
    assert_type(is_resolved(p), bool)


def through_a_store(store: Store, point: Point) -> None:
    p = store.proxy(point)
    assert_type(p.x, int)
    assert isinstance(p, isthmus.Proxy)
    assert isinstance(p, Point)
    takes_target(p)


def unions(p: Proxy[Point | None], q: Proxy[int] | None) -> None:
    if p is not None:
        p.scaled(1)
    if q is not None:
        assert_type(q + 1, int)


def unknown(p: Proxy[Any], q: object) -> None:
    p.whatever(1)[2] += 3
    if isinstance(q, Proxy):
        print(q.whatever + 1)


class Holder(Generic[T]):
    def __init__(self, held: Proxy[T]) -> None:
        self.held = held

    def get(self) -> T:
        return self.held


def generic(p: Proxy[Point]) -> Iterator[Point]:
    assert_type(Holder(p).get(), Point)
    yield p
