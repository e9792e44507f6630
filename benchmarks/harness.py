"""A case: the same thing done by isthmus, by a peer and bare, in turn over several rounds, held against targets."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.peers import HERE, SideError, Workers
from benchmarks.stats import Estimate, bootstrap, paired

Verdict = Literal["met", "missed", "inconclusive", "not measured"]

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
    """A bound on our figure: as it is, as a multiple of a reference, or as a distance from one."""

    most: bool
    bound: float
    of: str | None = None
    over: str | None = None

    def text(self, unit: str) -> str:
        """Return it as the tables print it."""
        sign = "≤" if self.most else "≥"
        if self.of:
            return f"{sign} {self.bound:g}× {self.of}"
        if self.over:
            return f"{sign} {self.over} {self.bound:+g} {unit}"
        return f"{sign} {self.bound:g} {unit}".rstrip()

    def estimate(self, ours: Sequence[float], samples: Mapping[str, Sequence[float]]) -> Estimate:
        """Return the figure that the bound is about."""
        if self.of:
            return paired(operator.truediv, ours, samples[self.of])
        if self.over:
            return paired(operator.sub, ours, samples[self.over])
        return bootstrap(ours)

    def judge(self, estimate: Estimate) -> Verdict:
        """Return whether the interval lies on one side of the bound, and on which."""
        _, low, high = estimate if self.most else (0, -estimate.high, -estimate.low)
        bound = self.bound if self.most else -self.bound
        return "met" if high <= bound else "missed" if low > bound else "inconclusive"


def at_most(bound: float, *, of: str | None = None, over: str | None = None) -> Target:
    """Bound ours from above: `bound` in the case's unit, or times the reference `of`, or above `over`."""
    return Target(True, bound, of, over)


def at_least(bound: float, *, of: str | None = None, over: str | None = None) -> Target:
    """Bound ours from below; arguments as for `at_most`."""
    return Target(False, bound, of, over)


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
        """Convert seconds of one loop (or a value) into the case's unit."""
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
            needed = target.of or target.over or HERE
            if ours and needed in self.samples:
                estimate = target.estimate(ours, self.samples)
                rows.append(Judged(target, estimate, target.judge(estimate)))
            else:
                rows.append(Judged(target, None, "not measured"))
        return rows


def _short(error: SideError) -> str:
    _, name, message, _ = error.args
    return f"{name}: {message}"


MIN_ROUNDS = 5
QUICK_ROUNDS = 3
BATCH = 0.02  # seconds: long against the clock and the switch of processes, short against the noise


def measure(case: Case, workers: Workers, *, quick: bool = False) -> Result:
    """Run all sides of a case in turn, each round in another order, and return every sample."""
    sides: dict[str, Code | Value] = {HERE: case.ours, **case.against}
    errors: dict[str, str] = {}
    loops: dict[str, int] = {}
    names = {side: f"{side}_{abs(hash((case.name, side)))}" for side in sides}

    def ask(side: str, do: str, **more: object) -> float | None:
        return workers[sides[side].side].ask(do, names[side], **more)

    for side, code in sides.items():
        try:
            fields = ("kind", "stmt", "setup", "before", "after")
            ask(side, "setup", **{f: getattr(code, f) for f in fields})
            loops[side] = 1
            if code.kind == "time":
                while (took := ask(side, "time", n=loops[side]) or 0.0) < BATCH / 2:
                    loops[side] = max(2 * loops[side], int(loops[side] * BATCH / max(took, 1e-6)))
            else:
                ask(side, "time", n=1)
        except SideError as error:
            errors[side] = _short(error)
            loops.pop(side, None)

    rounds: list[dict[str, float]] = []
    end = time.monotonic() + (case.budget / 4 if quick else case.budget)
    least, most = (
        (QUICK_ROUNDS, QUICK_ROUNDS) if quick else (min(MIN_ROUNDS, case.rounds), case.rounds)
    )
    while len(rounds) < least or (len(rounds) < most and time.monotonic() < end):
        turn = len(rounds) % max(len(loops), 1)
        order = [*loops][turn:] + [*loops][:turn]
        this: dict[str, float] = {}
        for side in order:
            try:
                took = ask(side, "time", n=loops[side])
            except SideError as error:
                errors[side] = _short(error)
                del loops[side]
                continue
            per_loop = (took or 0.0) / (loops[side] if sides[side].kind == "time" else 1)
            this[side] = case.figure(per_loop)
        rounds.append(this)

    for side in sides:
        try:
            ask(side, "drop")
        except SideError as error:
            errors.setdefault(side, _short(error))
    samples = {s: [r[s] for r in rounds] for s in sides if s in loops and s not in errors}
    return Result(case, samples, errors)
