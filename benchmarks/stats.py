"""What a handful of noisy samples allows one to say: middles, spreads, intervals of paired figures."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import median, quantiles
from typing import NamedTuple

RESAMPLES = 2000
CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A figure with the interval that the data leave it, at `CONFIDENCE`."""

    figure: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> float:
    """Return the interquartile range; 0 of fewer than two samples."""
    if len(samples) < 2:
        return 0.0
    first, _, third = quantiles(samples, n=4, method="inclusive")
    return third - first


def bootstrap(samples: Sequence[float], *, seed: int = 0) -> Estimate:
    """Return the median of `samples` and its percentile bootstrap interval.

    The seed is fixed: the same samples always give the same verdict.
    """
    draw = random.Random(seed)
    middles = sorted(median(draw.choices(samples, k=len(samples))) for _ in range(RESAMPLES))
    tail = round((1 - CONFIDENCE) / 2 * RESAMPLES)
    return Estimate(median(samples), middles[tail], middles[-1 - tail])


def paired(
    how: Callable[[float, float], float], ours: Sequence[float], theirs: Sequence[float]
) -> Estimate:
    """Compare round by round, so that a drift of the machine's speed falls out."""
    return bootstrap([how(a, b) for a, b in zip(ours, theirs, strict=True)])
