from __future__ import annotations

import json

from isthmus.store.metrics import StoreMetrics


def test_an_operation_and_its_parts_are_recorded_together() -> None:
    metrics = StoreMetrics()
    for size in (10, 30):
        watch = metrics.watch("put")
        watch.lap("encode", size)
        watch.stop("key", size)
    metrics.count("cache.hit", "key")
    mine = metrics.get_metrics("key")
    assert mine is not None
    assert (mine["put"].count, mine["put"].bytes, mine["encode"].bytes) == (2, 40, 40)
    assert 0 <= mine["put"].min_seconds <= mine["put"].max_seconds <= mine["put"].seconds
    assert mine["encode"].seconds <= mine["put"].seconds
    assert metrics.totals() == mine
    assert json.loads(json.dumps(mine.as_dict()))["cache.hit"]["count"] == 1


def test_what_is_handed_out_is_a_copy() -> None:
    metrics = StoreMetrics()
    metrics.count("cache.hit")
    metrics.totals()["cache.hit"].count = 99
    assert metrics.totals()["cache.hit"].count == 1


def test_objects_beyond_the_bound_lose_their_record_and_stay_in_the_totals() -> None:
    metrics = StoreMetrics(max_objects=2)
    for key in ("a", "b", "a", "c"):
        metrics.count("get", key)
    assert metrics.get_metrics("b") is None
    assert metrics.get_metrics("a") is not None
    assert metrics.totals()["get"].count == 4


def test_printing_tells_what_was_counted() -> None:
    metrics = StoreMetrics()
    assert repr(metrics) == "<StoreMetrics of nothing yet>"
    metrics.watch("put").stop("key", 40)
    metrics.count("cache.hit")
    shown = repr(metrics)
    assert "put: 1 in " in shown
    assert ", 40 bytes" in shown
    assert shown.startswith("<StoreMetrics\n  cache.hit: 1\n")
