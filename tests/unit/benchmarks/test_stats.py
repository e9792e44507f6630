from __future__ import annotations

import operator
import random
from statistics import median

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import bootstrap, paired, spread

SAMPLES = st.lists(st.floats(0.1, 1e6), min_size=1, max_size=20)


@given(SAMPLES)
def test_the_interval_holds_the_median_and_stays_within_the_samples(samples: list[float]) -> None:
    figure, low, high = bootstrap(samples)
    assert min(samples) <= low <= figure <= high <= max(samples)
    assert figure == median(samples)


def test_the_same_samples_give_the_same_interval() -> None:
    samples = [random.Random(3).gauss(10, 1) for _ in range(15)]
    assert bootstrap(samples) == bootstrap(samples)


def test_equal_samples_leave_no_doubt() -> None:
    assert bootstrap([2.0] * 5) == (2.0, 2.0, 2.0)
    assert spread([2.0] * 5) == 0
    assert spread([7.0]) == 0


def test_the_spread_is_the_interquartile_range() -> None:
    assert spread([1, 2, 3, 4, 5]) == 2


def test_a_drift_that_hits_both_sides_falls_out() -> None:
    drift = [1.0, 1.3, 1.7, 2.2, 0.8]
    figure, low, high = paired(operator.truediv, [4 * d for d in drift], [2 * d for d in drift])
    assert low == high == figure == 2


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    draw = random.Random(11)
    hits = 0
    for _ in range(100):
        _, low, high = bootstrap([draw.gauss(0, 1) for _ in range(15)])
        hits += low <= 0 <= high
    assert 86 <= hits <= 100
