"""Foreign, truncated and damaged bytes are a CodecError: no crash, no huge allocation."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus import codec
from isthmus.codec import frame

SAMPLES = [
    b"abc" * 10,
    "text",
    bytearray(b"abc"),
    memoryview(b"abc"),
    np.arange(20.0),
    {"a": [1, 2, {"b": np.arange(2000)}], "c": (np.arange(600), None)},
    ["x" * 200_000, b"y" * 200_000],
]
ENCODED = [codec.serialize(sample) for sample in SAMPLES]


@pytest.mark.parametrize("data", ENCODED)
def test_every_truncation(data: bytes) -> None:
    step = max(1, len(data) // 400)
    for length in [*range(min(len(data), 200)), *range(200, len(data), step)]:
        with pytest.raises(codec.CodecError):
            codec.decode(data[:length])


@pytest.mark.parametrize("data", ENCODED)
def test_bytes_too_many(data: bytes) -> None:
    with pytest.raises(codec.CodecError, match="wrong length"):
        codec.decode(data + b"\0")


@given(st.binary(max_size=200))
def test_foreign_bytes(data: bytes) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(data)


@pytest.mark.parametrize("data", ENCODED)
def test_every_changed_byte_of_the_steering_part(data: bytes) -> None:
    _, metadata, buffers = frame.unpack(data)
    end = len(data) - sum(map(len, buffers)) if buffers else len(data)
    for at in [*range(min(end, 300)), *range(300, end, max(1, end // 200))]:
        for flip in (1, 0x80, 0xFF):
            changed = bytearray(data)
            changed[at] ^= flip
            try:
                codec.decode(changed)
            except codec.CodecError:
                continue
            # Padding, or the inside of a long string or bytes: nothing that steers.
            assert not buffers or at >= end - 64 or len(metadata) > 100_000
            assert at >= 24


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_random_damage_gives_an_object_or_a_codec_error(data: st.DataObject) -> None:
    changed = bytearray(data.draw(st.sampled_from(ENCODED)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                changed[at] = data.draw(st.integers(0, 255))
            case 1:
                del changed[at : at + data.draw(st.integers(1, 9))]
            case _:
                changed[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        if not changed:
            break
    try:
        codec.decode(changed)
    except codec.CodecError:
        pass


HUGE = [2**60, 2**64 - 1, 2**40]


@pytest.mark.parametrize("huge", HUGE)
def test_a_header_that_claims_the_moon_allocates_nothing(huge: int) -> None:
    lies = [
        frame._head.pack(frame.MAGIC, 1, 0, 0, 0, 0, huge),
        frame._head.pack(frame.MAGIC, 1, 0, 0, 2**32 - 1, 0, 0),
        frame._head.pack(frame.MAGIC, 1, 0, 2**16 - 1, 0, 0, 0),
        frame._head_of_one.pack(frame.MAGIC, 1, 1, 0, 1, 0, 0, huge),
    ]
    tracemalloc.start()
    try:
        for lie in lies:
            with pytest.raises(codec.CodecError):
                codec.decode(lie + bytes(100))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def well_formed(tag: int, metadata: bytes, buffer: bytes) -> bytes:
    return codec.join(frame.pack_one(tag, metadata, buffer))


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"C",
        b"C<f8",
        b"C<f8,2",
        b"C<f8,-1",
        b"C<f8,x",
        b"C|O,1",
        b"C<f8,1,9999999999999",
        b"\xff",
        b"C<M8,1",
        b"C02f8,1",
    ],
)
def test_an_array_whose_description_does_not_fit(metadata: bytes) -> None:
    with pytest.raises(codec.CodecError):
        codec.decode(well_formed(frame.Tag.NDARRAY, metadata, bytes(8)))


def test_a_string_that_is_not_utf8() -> None:
    with pytest.raises(codec.CodecError, match="UTF-8"):
        codec.decode(well_formed(frame.Tag.STR, b"", b"\xff\xff"))


def test_a_tag_of_the_future() -> None:
    with pytest.raises(codec.CodecError, match="newer"):
        codec.decode(well_formed(200, b"", b""))


def test_a_version_of_the_future() -> None:
    data = bytearray(codec.serialize(1))
    data[4] = 9
    with pytest.raises(codec.CodecError, match="version 9"):
        codec.decode(data)


def test_pickle_bytes_are_foreign() -> None:
    import pickle

    with pytest.raises(codec.CodecError, match="not encoded by isthmus"):
        codec.decode(pickle.dumps(list(range(100))))


@pytest.mark.parametrize("data", [None, 3, "text", []])
def test_what_is_not_bytes_at_all(data: Any) -> None:
    with pytest.raises(codec.CodecError, match="bytes"):
        codec.decode(data)


def test_both_packers_write_the_same_frame() -> None:
    for metadata, buffer in ((b"", b""), (b"x" * 37, b"y" * 100), (b"x" * 32, b"")):
        one = codec.join(frame.pack_one(7, metadata, buffer))
        assert one == codec.join(frame.pack(7, [metadata], [[buffer]]))


def test_a_view_with_gaps() -> None:
    gaps = bytearray(2 * codec.size(codec.encode(b"abc")))
    gaps[::2] = codec.serialize(b"abc")
    with pytest.raises(codec.CodecError, match="strides"):
        codec.decode(memoryview(gaps)[::2])
