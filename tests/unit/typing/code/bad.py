"""What is wrong about proxies. Every line that mypy must complain about says how."""

# fmt: off
# ruff: noqa: E501, F842
from __future__ import annotations

from collections.abc import Callable

from isthmus.proxy import Proxy
from isthmus.store import Store
from isthmus.typing import ProxyOr


class Point:
    x: int = 0

    def scaled(self, by: float) -> Point:
        return self


def takes_text(text: str) -> None: ...


def takes_either(p: ProxyOr[Point]) -> None: ...


def wrong(
    p: Proxy[Point],
    n: Proxy[int],
    xs: Proxy[list[int]],
    f: Proxy[Callable[[int], str]],
    store: Store,
) -> None:
    p.z  # E: "Point" has no attribute "z"  [attr-defined]
    p.x = "a"  # E: Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]
    p.scaled("a")  # E: Argument 1 to "scaled" of "Point" has incompatible type "str"; expected "float"  [arg-type]
    p()  # E: "Point" not callable  [operator]
    p + 1  # E: Unsupported operand types for + ("Point" and "int")  [operator]
    p[0]  # E: Value of type "Point" is not indexable  [index]
    len(n)  # E: Argument 1 to "len" has incompatible type "int"; expected "Sized"  [arg-type]
    n + "a"  # E: Unsupported operand types for + ("int" and "str")  [operator]
    xs["a"]  # E: No overload variant of "__getitem__" of "list" matches argument type "str"  [call-overload]
    xs.append("a")  # E: Argument 1 to "append" of "list" has incompatible type "str"; expected "int"  [arg-type]
    f("a")  # E: Argument 1 has incompatible type "str"; expected "int"  [arg-type]
    takes_text(n)  # E: Argument 1 to "takes_text" has incompatible type "int"; expected "str"  [arg-type]
    takes_either(n)  # E: Argument 1 to "takes_either" has incompatible type "int"; expected "Point"  [arg-type]
    for _ in n:  # E: "int" has no attribute "__iter__" (not iterable)  [attr-defined]
        pass
    with n:  # E: "int" has no attribute "__enter__"  [attr-defined]  # E: "int" has no attribute "__exit__"  [attr-defined]
        pass
    Proxy(lambda: 3).upper()  # E: "int" has no attribute "upper"  [attr-defined]
    store.proxy(Point()).z  # E: "Point" has no attribute "z"  [attr-defined]
    two: Proxy[int, str]  # E: "Proxy" expects 1 type argument, but 2 given  [misc]
