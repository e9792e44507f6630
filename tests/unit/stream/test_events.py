"""What streams say in their messages, and what they do not run."""

from __future__ import annotations

import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import CodecError
from isthmus.stream.event import (
    VERSION,
    Batch,
    End,
    Item,
    decode,
    encode,
    pack_metadata,
    unpack_metadata,
)

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), plain, max_size=4), st.binary())
def test_a_batch_comes_back_as_it_went(metadata: dict[str, object], payload: bytes) -> None:
    items = [
        Item(payload, None, len(payload), 0, pack_metadata(metadata)),
        Item(None, ["a", 1], 9, 0, pack_metadata({}), True, {"c": ["b", 2]}, "d"),
    ]
    batch = Batch(VERSION, "p", 7, b"store", (1, "host"), [("builtins", "list", 3)], items)
    back = decode(encode(batch))
    assert isinstance(back, Batch)
    assert back == batch
    assert unpack_metadata(back.items[0].metadata) == metadata


@given(st.binary(max_size=200))
def test_noise_is_refused_with_one_error(noise: bytes) -> None:
    with pytest.raises(CodecError):
        decode(noise)


def test_an_end_comes_back() -> None:
    for end in (End(VERSION, "p", 3), End(VERSION, "p", 3, ("ValueError", "no"))):
        assert decode(encode(end)) == end


def test_a_newer_event_asks_for_an_upgrade() -> None:
    with pytest.raises(CodecError, match="version 2 reached a process that reads version 1"):
        decode(encode(End(2, "p", 0)))


def test_pickles_are_not_looked_at() -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return pytest.fail, ("it was unpickled",)

    with pytest.raises(CodecError):
        decode(pickle.dumps(Bomb()))
    item = Item(pickle.dumps(Bomb()), None, 1, -1)
    assert isinstance(decode(encode(Batch(VERSION, "p", 0, None, (0, ""), [], [item]))), Batch)


def test_a_short_item_is_short() -> None:
    empty = Batch(VERSION, "0" * 12, 0, None, (2**31, "host"), [], [])
    item = Item(bytes(100), None, 100, 0)
    batch = msgspec.structs.replace(empty, items=[item] * 10)
    assert len(encode(batch)) - len(encode(empty)) <= 10 * 110


@pytest.mark.parametrize("bad", [None, [1], {"x": object()}, {1: 2}, {"x": 2**70}])
def test_metadata_that_cannot_travel(bad: object) -> None:
    with pytest.raises(CodecError, match="without pickles"):
        pack_metadata(bad)
