"""A case: one thing done by isthmus, by a peer and bare, in turn over several rounds, against targets."""

from __future__ import annotations

import itertools
import operator
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.peers import HERE, SideError, Workers
from benchmarks.stats import Estimate, bootstrap, paired

Verdict = Literal["met", "missed", "inconclusive", "not measured", "not judged"]

SECONDS = {"ns": 1e9, "µs": 1e6, "ms": 1e3, "s": 1.0}
RATES = {"GB/s": 1e-9, "MB/s": 1e-6, "/s": 1.0}


@dataclass(frozen=True)
class Code:
    """Statements to time; the figure is the time of one loop.

    Attributes:
        stmt: what is timed. Names made by `setup` are local variables here.
        setup: run once, untimed, in a module of its own.
        before: run untimed before every loop.
        after: run untimed after every loop.
        side: the environment it runs in: ours, or a peer's by name. Every peer has its own process.
    """

    stmt: str
    setup: str = ""
    before: str = ""
    after: str = ""
    side: str = HERE
    kind: str = field(default="time", init=False)


@dataclass(frozen=True)
class Value:
    """An expression whose value is the figure itself: bytes, counts, a peak of memory."""

    stmt: str
    setup: str = ""
    side: str = HERE
    kind: str = field(default="value", init=False)
    before: str = field(default="", init=False)
    after: str = field(default="", init=False)


@dataclass(frozen=True)
class Target:
    """A bound on our figure: as it is, as a multiple of a reference, or as a distance from one.

    The distance is in the case's unit above `over`, or in percent of `below` under it. Without a bound the
    figure is shown and not judged.
    """

    most: bool
    bound: float | None
    of: str | None = None
    over: str | None = None
    below: str | None = None

    @property
    def reference(self) -> str | None:
        """The side that ours is held against; None if the figure is ours alone."""
        return self.of or self.over or self.below

    def text(self, unit: str) -> str:
        """Return it as the tables print it."""
        if self.bound is None:
            return "–"
        sign = "≤" if self.most else "≥"
        if self.of:
            return f"{sign} {self.bound:g}× {self.of}"
        if self.over:
            return f"{sign} {self.over} {self.bound:+g} {unit}"
        if self.below:
            return f"{sign} {self.bound:g} % below {self.below}"
        return f"{sign} {self.bound:g} {unit}".rstrip()

    def estimate(self, ours: Sequence[float], samples: Mapping[str, Sequence[float]]) -> Estimate:
        """Return the figure that the bound is about."""
        if self.of:
            return paired(operator.truediv, ours, samples[self.of])
        if self.over:
            return paired(operator.sub, ours, samples[self.over])
        if self.below:
            return paired(lambda a, b: 100 * (1 - a / b), ours, samples[self.below])
        return bootstrap(ours)

    def judge(self, estimate: Estimate) -> Verdict:
        """Return whether the interval lies on one side of the bound, and on which."""
        if self.bound is None:
            return "not judged"
        _, low, high = estimate if self.most else (0, -estimate.high, -estimate.low)
        bound = self.bound if self.most else -self.bound
        return "met" if high <= bound else "missed" if low > bound else "inconclusive"


def at_most(bound: float, *, of: str | None = None, over: str | None = None) -> Target:
    """Bound ours from above: `bound` in the case's unit, or times the reference `of`, or above `over`."""
    return Target(True, bound, of, over)


def at_least(
    bound: float, *, of: str | None = None, over: str | None = None, below: str | None = None
) -> Target:
    """Bound ours from below; as `at_most`, or the percent by which ours is `below` a reference."""
    return Target(False, bound, of, over, below)


def compare(reference: str) -> Target:
    """Show by how many percent ours is below a reference, and judge nothing."""
    return Target(False, None, below=reference)


@dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: the operation, as the table prints it.
        ours: what isthmus does.
        against: what the references do, by name ("bare", "ProxyStore", "Ray", "memcpy", ...).
        targets: what ours has to reach.
        unit: of all figures: a time, a rate (`amount` of one loop over its time), or the unit of a `Value`.
        amount: what one loop moves (bytes, items), for rates.
        rounds: at most; fewer when `budget` seconds are over (but `MIN_ROUNDS`).
    """

    name: str
    ours: Code | Value
    against: Mapping[str, Code | Value] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    unit: str = "µs"
    amount: float = 1.0
    rounds: int = 15
    budget: float = 15.0

    def figure(self, measured: float) -> float:
        """Convert seconds of one loop into the case's unit."""
        if self.unit in SECONDS:
            return measured * SECONDS[self.unit]
        if self.unit in RATES:
            return self.amount / measured * RATES[self.unit]
        return measured


@dataclass(frozen=True)
class Judged:
    """A target with what was measured of it."""

    target: Target
    estimate: Estimate | None
    verdict: Verdict


@dataclass(frozen=True)
class Result:
    """The samples of all sides, round by round, in the case's unit, and what failed."""

    case: Case
    samples: dict[str, list[float]]
    errors: dict[str, str]

    def judged(self) -> list[Judged]:
        """Hold the samples against the case's targets."""
        ours = self.samples.get(HERE)
        rows = []
        for target in self.case.targets:
            needed = target.reference or HERE
            if ours and needed in self.samples:
                estimate = target.estimate(ours, self.samples)
                rows.append(Judged(target, estimate, target.judge(estimate)))
            else:
                rows.append(Judged(target, None, "not measured"))
        return rows


MIN_ROUNDS = 5
QUICK_ROUNDS = 3
BATCH = 0.02  # seconds: long against the clock and the switch of processes, short against the noise
FRAMED_BATCH = 0.1  # with the untimed `before` and `after`

_numbers = itertools.count()


def measure(case: Case, workers: Workers, *, quick: bool = False) -> Result:
    """Run all sides of a case in turn, each round in another order, and return every sample."""
    sides = {name: _Side(code, workers) for name, code in {HERE: case.ours, **case.against}.items()}
    errors: dict[str, str] = {}
    samples: dict[str, list[float]] = {name: [] for name in sides}

    def attempt(name: str, step: Callable[[], None]) -> None:
        if name in errors:
            return
        try:
            step()
        except SideError as error:
            _, kind, message, trace = error.args
            errors[name] = f"{kind}: {message}"
            if name == HERE and trace:
                print(trace, file=sys.stderr)

    for name, side in sides.items():
        attempt(name, side.prepare)
    least = QUICK_ROUNDS if quick else min(MIN_ROUNDS, case.rounds)
    most = QUICK_ROUNDS if quick else case.rounds
    end = time.monotonic() + case.budget
    for turn in range(most):
        if turn >= least and time.monotonic() > end:
            break
        order = [*sides][turn % len(sides) :] + [*sides][: turn % len(sides)]
        for name in order:
            attempt(name, lambda name=name: samples[name].append(sides[name].sample(case)))
    for name, side in sides.items():
        attempt(name, side.drop)
    return Result(case, {n: s for n, s in samples.items() if n not in errors}, errors)


class _Side:
    """One side's snippet in its worker, with as many loops a sample as make a good batch."""

    def __init__(self, code: Code | Value, workers: Workers) -> None:
        self._code = code
        self._workers = workers
        self._name = f"snippet_{next(_numbers)}"
        self._loops = 1

    def prepare(self) -> None:
        fields = ("kind", "stmt", "setup", "before", "after")
        self._ask("setup", **{f: getattr(self._code, f) for f in fields})
        if self._code.kind == "value":
            return
        framed = bool(self._code.before or self._code.after)
        batch = FRAMED_BATCH if framed else BATCH
        while True:
            start = time.perf_counter()
            timed = self._ask("time", n=self._loops)
            took = time.perf_counter() - start if framed else timed
            if took > batch / 2:
                return
            self._loops = max(2 * self._loops, int(self._loops * batch / max(took, 1e-6)))

    def sample(self, case: Case) -> float:
        measured = self._ask("time", n=self._loops)
        return case.figure(measured / self._loops) if self._code.kind == "time" else measured

    def drop(self) -> None:
        self._ask("drop")

    def _ask(self, do: str, **more: object) -> float:
        return self._workers[self._code.side].ask(do, self._name, **more)
