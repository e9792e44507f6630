from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.bench.nested import replace


class Wanted:
    def __init__(self, value: Any) -> None:
        self.value = value


def swapped(obj: Any) -> Any:
    return replace(obj, Wanted, lambda w: w.value)


Point = namedtuple("Point", "x y")


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    b: Any = 2


@dataclass
class Plain:
    a: Any
    kept: list[int] = field(default_factory=list, init=False)


W = Wanted(7)


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        (W, 7),
        ([1, W], [1, 7]),
        ((W, [W, {"a": W}]), (7, [7, {"a": 7}])),
        ({W: 1, "b": {W}}, {7: 1, "b": {7}}),
        (frozenset({W}), frozenset({7})),
        (deque([W, 1], maxlen=2), deque([7, 1], maxlen=2)),
        (Point(W, 1), Point(7, 1)),
        (OrderedDict(b=1, a=W), OrderedDict(b=1, a=7)),
        (Counter({"x": W}), Counter({"x": 7})),
        (Frozen(W), Frozen(7)),
        ([Frozen([W])], [Frozen([7])]),
    ],
)
def test_found_at_any_depth(obj: Any, expected: Any) -> None:
    found = swapped(obj)
    assert found == expected
    assert type(found) is type(expected)


def test_a_default_factory_and_uninitialised_fields_stay() -> None:
    found = swapped(defaultdict(list, a=W))
    assert found["a"] == 7
    assert found["new"] == []
    plain = Plain(W)
    plain.kept.append(3)
    assert swapped(plain).kept == [3]
    assert plain.a is W  # the original is never changed


nothing_wanted = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
)


@given(nothing_wanted)
def test_what_holds_nothing_comes_back_itself(obj: Any) -> None:
    assert swapped(obj) is obj


def test_a_container_inside_itself_ends() -> None:
    loop: list[Any] = [W]
    loop.append(loop)
    assert swapped(loop)[0] == 7


def test_a_container_met_twice_is_replaced_twice() -> None:
    shared = [W]
    assert swapped([shared, shared]) == [[7], [7]]
