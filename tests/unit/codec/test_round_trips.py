"""What goes in comes out: same type, same value, views where there can be views."""

from __future__ import annotations

import copyreg
import dataclasses
import datetime as dt
import pickle
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import codec

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def again(obj: Any) -> Any:
    return codec.decode(bytearray(codec.join(codec.encode(obj))))


def same(a: Any, b: Any) -> bool:
    # Pickle distinguishes what == does not: nan, -0.0, True and 1.
    return type(a) is type(b) and pickle.dumps(a) == pickle.dumps(b)


@given(plain)
def test_plain_objects(obj: Any) -> None:
    assert repr(again(obj)) == repr(obj)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 100_000])
def test_bytes_keep_their_type(kind: Any, length: int) -> None:
    obj = kind(b"x" * length)
    assert same(again(obj), obj)
    assert same(again([obj, obj])[1], obj)


@pytest.mark.parametrize("text", ["", "é", "\udc80 alone", "a\0b", "\U0001f40d" * 100_000])
def test_text(text: str) -> None:
    assert again(text) == text
    assert again({"in": text}) == {"in": text}


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b""),
        memoryview(b"abc"),
        memoryview(np.arange(6.0).reshape(2, 3)),
        memoryview(np.arange(6, dtype="i4").reshape(2, 3).T),
        memoryview(b"abcdef")[::2],
    ],
)
def test_a_memoryview_is_a_view_with_its_format_and_shape(view: memoryview) -> None:
    for back in (again(view), again({"in": view})["in"]):
        assert type(back) is memoryview
        assert (back.format, back.shape, back.tolist()) == (view.format, view.shape, view.tolist())
        assert back.readonly is view.readonly


def test_a_memoryview_of_odd_items_says_what_to_send_instead() -> None:
    with pytest.raises(codec.CodecError, match="send the array"):
        codec.encode(memoryview(np.zeros(2, complex)))


ARRAYS = [
    np.arange(10),
    np.array(3.5),
    np.zeros((0, 3)),
    np.zeros((3, 0), order="F"),
    np.arange(6, dtype=">i4").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    np.arange(10)[::-2],
    np.broadcast_to(np.arange(3), (2, 3)),
    np.array([1 + 2j]),
    np.array([1.5], np.float16),
    np.array([1], np.longdouble),
    np.array([True, False]),
    np.array(["a", "bcd"]),
    np.array([b"a", b"bcd"]),
    np.array([""], "S0"),
    np.array(["2020-01-01", "NaT"], "M8[D]"),
    np.array([1, 2], "m8[ms]"),
    np.array([(1, 2.0, "x")], [("a", "i4"), ("b", "f8"), ("c", "U3")]),
    np.array([(1, 2)], np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"]}, align=True)),
    np.array([{"a": 1}, None], object),
    np.array([b"12"], "V2"),
    np.arange(3, dtype=np.dtype("i4", metadata={"unit": "m"})),
    np.array([[1, 2], [3, 4]]).view(np.matrix),
    np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.ma.array([1, 2, 3], mask=[0, 1, 0], fill_value=7),
    np.ma.array([1.0, 2.0], hard_mask=True),
    np.ma.array([(1, 2)], mask=[(0, 1)], dtype=[("a", int), ("b", int)]),
    np.arange(5000),
    np.asfortranarray(np.arange(5000.0).reshape(50, 100)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{type(a).__name__}-{a.dtype}-{a.shape}")
@pytest.mark.parametrize("nested", [False, True])
def test_arrays_keep_type_dtype_order_and_values(array: Any, nested: bool) -> None:
    back = again([array])[0] if nested else again(array)
    assert type(back) is type(array)
    assert back.dtype == array.dtype
    assert back.dtype.type is array.dtype.type  # np.record
    assert back.dtype.metadata == array.dtype.metadata
    assert back.shape == array.shape
    np.testing.assert_array_equal(np.asarray(back), np.asarray(array))
    if array.flags.f_contiguous and not array.dtype.hasobject:
        assert back.flags.f_contiguous
    if isinstance(array, np.ma.MaskedArray):
        assert (np.ma.getmaskarray(back) == np.ma.getmaskarray(array)).all()
        assert back.fill_value == array.fill_value
        assert back.hardmask == array.hardmask


def test_a_masked_array_without_a_mask_gets_none() -> None:
    assert again(np.ma.array([1, 2])).mask is np.ma.nomask


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_arrays_of_any_layout(data: st.DataObject) -> None:
    from hypothesis.extra import numpy as hnp

    array = data.draw(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)))
    if array.ndim:
        array = array.transpose(data.draw(st.permutations(range(array.ndim))))
        array = array[:: data.draw(st.sampled_from([1, 2, -1]))]
    for back in (again(array), again((1, array))[1]):
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


class Tagged(np.ndarray):
    """A subclass that numpy pickles without its attribute, and we must not make worse."""


def test_a_user_defined_subclass_keeps_its_class() -> None:
    back = again(np.arange(3).view(Tagged))
    assert type(back) is Tagged
    assert back.tolist() == [0, 1, 2]


def test_a_memmap_stays_one(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "x", dtype="f8", mode="w+", shape=(1000,))
    mapped[:] = 2
    back = again(mapped)
    assert type(back) is np.memmap
    assert (back == 2).all()


def test_arrays_are_views_both_ways_and_as_writable_as_the_data() -> None:
    array = np.arange(10_000)
    for obj in (array, {"a": array}, array.view(np.matrix), pd.Series(array, copy=False)):
        pieces = codec.encode(obj)
        assert any(np.shares_memory(np.frombuffer(p, "u1"), array) for p in pieces)
        for data, writable in ((bytearray(codec.join(pieces)), True), (codec.join(pieces), False)):
            back = codec.decode(data)
            inner: Any = back["a"] if isinstance(back, dict) else np.asarray(back)
            assert np.shares_memory(inner, np.frombuffer(data, "u1"))
            if not isinstance(back, pd.Series):  # copy-on-write pandas hands out read-only views
                assert inner.flags.writeable is writable


def test_a_read_only_array_comes_back_writable_from_writable_data() -> None:
    array = np.arange(10_000)
    array.flags.writeable = False
    assert again(array).flags.writeable
    assert again([array])[0].flags.writeable
    assert again([array[:3]])[0].flags.writeable


def test_buffers_start_at_multiples_of_64() -> None:
    for obj in (np.arange(1001), [np.arange(1001), np.arange(1003, dtype="u1"), np.arange(2000)]):
        data = codec.join(codec.encode(obj))
        start = np.frombuffer(data, "u1").ctypes.data
        back = codec.decode(data)
        for array in back if isinstance(back, list) else [back]:
            if array.nbytes > 4096:
                assert (array.ctypes.data - start) % 64 == 0


def test_long_bytes_inside_objects_are_not_copied() -> None:
    payload = b"x" * 1_000_000
    pieces = codec.encode({"deep": [payload]})
    assert any(piece is payload for piece in pieces)
    assert codec.decode(codec.join(pieces)) == {"deep": [payload]}


FRAMES = [
    pd.DataFrame({"i": range(1000), "f": np.arange(1000.0), "s": ["x"] * 1000}),
    pd.DataFrame(np.zeros((2000, 5))),
    pd.DataFrame(
        {"c": pd.Categorical(["a", "b"]), "t": pd.date_range("2020", periods=2, tz="UTC")}
    ),
    pd.DataFrame({"o": [{"a": 1}, None]}, index=["x", "y"]),
    pd.DataFrame({"n": pd.array([1, None], "Int64")}),
    pd.DataFrame(),
]


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_pandas(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(again(frame), frame)
    pd.testing.assert_index_equal(again(frame.index), frame.index)
    for name in frame.columns:
        pd.testing.assert_series_equal(again(frame[name]), frame[name])


def test_a_frame_can_be_changed_in_place_over_writable_data() -> None:
    back = again(pd.DataFrame(np.zeros((2000, 5))))
    back.iloc[0, 0] = 1
    back += 1
    assert back.iloc[0, 0] == 2


@dataclasses.dataclass
class Sample:
    name: str
    when: dt.datetime
    values: Any


def test_objects_keep_identity_and_cycles() -> None:
    values = np.arange(2000)
    one = Sample("a", dt.datetime(2020, 1, 1), values)
    back = again({"x": one, "y": one, "v": values})
    assert back["x"] is back["y"]
    assert back["x"].values is back["v"]
    ring: list[Any] = []
    ring.append(ring)
    assert (back := again(ring))[0] is back


def test_reducers_registered_by_the_user_win() -> None:
    class Odd:
        pass

    copyreg.pickle(Odd, lambda _: (list, ()))
    try:
        assert again(Odd()) == []
    finally:
        del copyreg.dispatch_table[Odd]


def test_size_is_that_of_the_joined_whole() -> None:
    pieces = codec.encode([np.arange(2000), "x"])
    assert (
        codec.size(pieces)
        == len(codec.join(pieces))
        == len(codec.serialize([np.arange(2000), "x"]))
    )


@pytest.mark.parametrize("broken", [None, "empty"])
def test_a_package_that_is_not_what_it_seems_does_no_harm(broken: Any, monkeypatch: Any) -> None:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from isthmus.codec import reducers

    fake = None
    if broken:
        fake = ModuleType("polars")
        fake.__spec__ = ModuleSpec("polars", None)
    monkeypatch.setitem(sys.modules, "polars", fake)
    monkeypatch.delitem(sys.modules, "isthmus.codec.polars_frames", raising=False)
    monkeypatch.setattr(reducers, "_taken", reducers._taken - {"polars"})
    assert again([Sample("a", dt.datetime(2020, 1, 1), 1)])[0].name == "a"
