from __future__ import annotations

from array import array

import pytest

from isthmus.connectors.payload import immutable, pieces, total
from isthmus.errors import PayloadError


def test_nothing_is_copied() -> None:
    data = bytearray(b"abcdef")
    (view,) = pieces(data)
    data[0] = 0
    assert bytes(view) == b"\0bcdef"
    whole = b"abcdef"
    assert pieces(whole)[0] is whole
    assert pieces([whole, data])[0] is whole


def test_empty_pieces_are_dropped() -> None:
    empty = memoryview(array("d"))
    assert pieces([b"", empty, memoryview(bytearray(12)).cast("B", (3, 4))[0:0]]) == []
    assert pieces(b"") == pieces(bytearray()) == pieces([]) == []


def test_structured_memory_is_taken_as_bytes() -> None:
    np = pytest.importorskip("numpy")
    table = np.zeros((3, 2), dtype=[("a", "i4"), ("b", "f8")])
    assert total(pieces(table)) == 3 * 2 * 12
    (view,) = pieces(memoryview(table))
    assert view.format == "B"


@pytest.mark.parametrize(
    "wrong", ["text", 3, None, [1], {b"a"}, memoryview(bytes(8))[::2], (b"", "x")]
)
def test_the_error_names_the_type(wrong: object) -> None:
    name = type(wrong[-1] if isinstance(wrong, list | tuple) else wrong).__name__
    with pytest.raises(PayloadError, match=f"cannot store a {name}"):
        pieces(wrong)  # type: ignore[arg-type]


def test_fortran_order_is_refused() -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(PayloadError, match="C-contiguous"):
        pieces(np.zeros((3, 4), order="F"))


def test_only_what_nobody_can_change_is_immutable() -> None:
    assert immutable(b"x")
    assert immutable(memoryview(b"x")[:0])
    assert not immutable(memoryview(bytearray(b"x")))
    assert not immutable(memoryview(bytearray(b"x")).toreadonly()), "its owner can"
