"""Frames through every cut, with garbage, and cut short."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import BrokenError, FullError, LocalProtocolError, RemoteProtocolError
from isthmus.wire.frames import DIRECT, JOINED, Frame, FrameDecoder, encode

SIZES = [0, 1, 7, 8, 9, 100, JOINED - 1, JOINED, JOINED + 1, DIRECT, DIRECT + 5, 3 * DIRECT]
payload = st.sampled_from(SIZES).flatmap(
    lambda n: st.integers(0, 255).map(lambda b: bytes([b]) * n)
)
frame = st.tuples(st.integers(0, 255), st.lists(payload, max_size=5))


def wire(frames: Iterable[tuple[int, list[bytes]]]) -> bytes:
    return b"".join(b"".join(encode(payloads, kind)) for kind, payloads in frames)


def plain(frames: Iterable[Frame]) -> list[tuple[int, list[bytes]]]:
    return [(f.kind, [bytes(p) for p in f.payloads]) for f in frames]


@given(st.lists(frame, max_size=8), st.lists(st.integers(0, 200_000), max_size=20), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(frames, cuts, data) -> None:
    stream = wire(frames)
    decoder = FrameDecoder()
    found = []
    at = 0
    for cut in [*sorted(c for c in cuts if c < len(stream)), len(stream)]:
        while at < cut:
            buffer = decoder.next_buffer()
            if buffer is None or data.draw(st.booleans()):
                found += decoder.receive(stream[at:cut])
                at = cut
            else:
                n = min(cut - at, len(buffer))
                buffer[:n] = stream[at : at + n]
                found += decoder.received(n)
                at += n
    decoder.finish()
    assert plain(found) == frames


@given(st.lists(frame, min_size=1, max_size=4), st.data())
def test_a_stream_cut_short_gives_the_frames_before_and_an_error(frames, data) -> None:
    stream = wire(frames)
    end = data.draw(st.integers(0, len(stream) - 1))
    decoder = FrameDecoder()
    found = plain(decoder.receive(stream[:end]))
    assert found == frames[: len(found)]
    if end == len(wire(frames[: len(found)])):
        decoder.finish()
    else:
        assert decoder.missing > 0
        with pytest.raises(RemoteProtocolError, match="within a frame"):
            decoder.finish()


@given(st.binary(max_size=300), st.integers(1, 300))
def test_garbage_raises_the_same_whatever_its_cuts(garbage: bytes, step: int) -> None:
    def read(pieces: list[bytes]) -> tuple[list[tuple[int, list[bytes]]], str]:
        decoder = FrameDecoder(max_bytes=100)
        found: list[Frame] = []
        try:
            for piece in pieces:
                for one in decoder.receive(piece):
                    found.append(one)  # noqa: PERF402 -- what came before the error is kept
        except RemoteProtocolError as error:
            with pytest.raises(RemoteProtocolError):
                decoder.receive(b"")
            return plain(found), str(error)
        return plain(found), f"lacks {decoder.missing}"

    cut = [garbage[i : i + step] for i in range(0, len(garbage), step)]
    assert read(cut) == read([garbage])


def test_one_payload_costs_eight_bytes_and_two_sixteen() -> None:
    assert sum(map(len, encode([b"x" * 10]))) == 18
    assert sum(map(len, encode([b"x" * 10, b"y" * 10]))) == 36
    assert encode([], 7) == [b"\x07" + bytes(7)]


def test_large_payloads_are_pieces_of_their_own() -> None:
    large = bytearray(JOINED)
    pieces = encode([b"head", large, b"tail", b"end"])
    assert [len(p) for p in pieces] == [8 + 24 + 4, JOINED, 7]
    assert memoryview(pieces[1]).obj is large


def test_a_large_body_is_received_into_its_own_memory() -> None:
    taken = []

    def allocate(n: int) -> bytearray:
        taken.append(bytearray(n))
        return taken[-1]

    body = bytes(range(256)) * 4096
    stream = wire([(1, [b"envelope", body, b"tail"])])
    decoder = FrameDecoder(allocate=allocate)
    assert decoder.next_buffer() is None
    assert list(decoder.receive(stream[:1000])) == []
    at = 1000
    while (buffer := decoder.next_buffer()) is not None:
        n = min(len(buffer), 70_000)
        buffer[:n] = stream[at : at + n]
        assert list(decoder.received(n)) == []
        at += n
    (found,) = decoder.receive(stream[at:])
    assert [len(t) for t in taken] == [len(body)]
    assert found.payloads[1].obj is taken[0]
    assert found.payloads == (b"envelope", body, b"tail")


def test_small_payloads_do_not_keep_a_read_alive() -> None:
    (found,) = FrameDecoder().receive(wire([(0, [b"a" * 100, b"b" * JOINED])]))
    assert type(found.payloads[0]) is bytes
    assert type(found.payloads[1]) is memoryview


def test_a_frame_that_is_too_large_is_refused_before_memory_is_taken() -> None:
    def never(n: int) -> bytearray:
        raise AssertionError(n)

    decoder = FrameDecoder(max_bytes=1000, allocate=never)
    assert list(decoder.receive(wire([(0, [bytes(1000)])]))) != []
    with pytest.raises(RemoteProtocolError, match="1001 bytes: at most 1000"):
        decoder.receive(wire([(0, [bytes(1001)])])[:8])
    assert isinstance(RemoteProtocolError("a", "b"), BrokenError)


def test_the_frames_before_a_bad_one_come_first() -> None:
    decoder = FrameDecoder(max_bytes=10)
    found = iter(decoder.receive(wire([(0, [b"good"])]) + b"\xff" * 8))
    assert next(found).payloads == (b"good",)
    with pytest.raises(RemoteProtocolError):
        next(found)


@pytest.mark.parametrize("partial", [0, 1])
def test_lengths_that_do_not_fit_are_refused(partial: int) -> None:
    head = struct.pack("<QQ", 3 << 8 | 30 << 16, 2**63) + struct.pack("<Q", 2**63) + bytes(14)
    with pytest.raises(RemoteProtocolError, match="do not fit"):
        FrameDecoder().receive(head[: len(head) - partial])
    with pytest.raises(RemoteProtocolError, match="no frame"):
        FrameDecoder().receive(struct.pack("<Q", 0 << 8 | 1 << 16))


def test_no_memory_is_an_error_that_says_so() -> None:
    def none(n: int) -> bytearray:
        raise MemoryError

    with pytest.raises(FullError, match="memory for a frame"):
        FrameDecoder(allocate=none).receive(wire([(0, [bytes(1 << 20)])])[:100])


@pytest.mark.parametrize(
    ("payloads", "kind"),
    [([b""] * 256, 0), ([], 256), ([], -1), (["text"], 0), ([memoryview(b"abcd")[::2]], 0)],
)
def test_what_cannot_be_sent_is_refused(payloads, kind) -> None:
    with pytest.raises(LocalProtocolError, match="cannot send"):
        encode(payloads, kind)


def test_buffers_of_other_types_and_shapes() -> None:
    import array

    words = array.array("d", range(1000))
    grid = memoryview(words).cast("B").cast("d", (10, 100))
    empty = memoryview(b"")
    (found,) = FrameDecoder().receive(b"".join(encode([words, grid, empty])))
    assert [bytes(p) for p in found.payloads] == [words.tobytes(), words.tobytes(), b""]
    with pytest.raises(LocalProtocolError, match="no memory was given out"):
        FrameDecoder().received(1)
