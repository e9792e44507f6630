from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from pydantic import ValidationError

from isthmus.bench.filter import All, Nothing, ObjectSize, ObjectType, PickleSize, object_size
from isthmus.bench.filter.configs import ObjectSizeConfig, ObjectTypeConfig, PickleSizeConfig


def test_all_and_nothing() -> None:
    assert All()(1)
    assert not Nothing()(1)


def test_sizes_count_what_an_object_holds() -> None:
    array = np.zeros(1000)
    assert object_size(array) == 8000
    assert object_size(array[::2]) == 4000
    assert object_size([array, array]) > 16_000
    assert object_size({"a": b"x" * 5000}) > 5000


@pytest.mark.parametrize("kind", [ObjectSize, PickleSize])
def test_limits_are_inclusive(kind: type[ObjectSize]) -> None:
    data = b"x" * 1000
    size = kind().measure(data)
    assert kind(size, size)(data)
    assert not kind(size + 1)(data)
    assert not kind(0, size - 1)(data)


def test_pickled_size_counts_buffers_and_lets_the_unpicklable_be() -> None:
    assert PickleSize().measure(np.zeros(1000)) > 8000
    assert not PickleSize()(threading.Lock())


def test_types_are_named_with_or_without_module_and_by_base() -> None:
    assert ObjectType(("ndarray",))(np.zeros(1))
    assert ObjectType(("numpy.ndarray",))(np.ma.zeros(1))
    assert not ObjectType(("ndarray",))([1])


@pytest.mark.parametrize(
    ("low", "high", "says"), [(-1, None, "negative"), (5, 4, "nothing would pass")]
)
def test_wrong_sizes_are_errors(low: int, high: int | None, says: str) -> None:
    for kind in (ObjectSize, PickleSize):
        with pytest.raises(ValueError, match=says):
            kind(low, high)
    for config in (ObjectSizeConfig, PickleSizeConfig):
        with pytest.raises(ValidationError):
            config(min_size=low, max_size=high)


def test_filters_travel() -> None:
    for config in (ObjectSizeConfig(min_size=3), ObjectTypeConfig(types=["ndarray"])):
        made = config.get_filter()
        assert pickle.loads(pickle.dumps(made)) == made
