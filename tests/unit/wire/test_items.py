from __future__ import annotations

import pickle

import pytest

from isthmus.errors import StreamInterrupted
from isthmus.wire.envelope import Envelope, Kind
from isthmus.wire.items import ItemReader


def item(number: int, epoch: int = 1) -> Envelope:
    return Envelope(Kind.ITEM, b"p", epoch, True, number + 1, request=9, item=number)


def test_items_are_taken_once_and_in_order() -> None:
    reader = ItemReader()
    assert [reader.take(item(n)) for n in (0, 1, 1, 0, 2)] == [True, True, False, False, True]
    reader.end(Envelope(Kind.REPLY, b"p", 1, False, 1, request=9, item=3))
    with pytest.raises(StreamInterrupted, match="after 3 items"):
        reader.end(Envelope(Kind.REPLY, b"p", 1, False, 1, request=9, item=4))
    with pytest.raises(StreamInterrupted):
        reader.take(item(4))
    reader.end(Envelope(Kind.FAILURE, b"p", 1, False, 1, request=9))


def test_a_stream_that_begins_anew_is_interrupted() -> None:
    reader = ItemReader()
    reader.take(item(0))
    reader.take(item(1))
    with pytest.raises(StreamInterrupted, match="after 2 items") as caught:
        reader.take(item(0, epoch=2))
    assert pickle.loads(pickle.dumps(caught.value)).args == (1,)


def test_a_resumable_stream_goes_on_after_what_its_reader_has() -> None:
    reader = ItemReader(resumable=True)
    for number in range(3):
        reader.take(item(number))
    assert [reader.take(item(n, epoch=2)) for n in range(5)] == [False, False, False, True, True]
