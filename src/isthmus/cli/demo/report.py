"""What one demo measured, and what follows from it; everything shown anywhere comes from here."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec

from isthmus.cli.quantities import bytes_text, seconds_text

__all__ = ["Comparison", "Measured", "Report", "Sample", "Workload", "times_text"]


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """Memory at one moment."""

    at: float
    """Seconds since the first run of the variant began."""
    total: int
    """Bytes: all processes of the variant, and its shared memory, each page once."""


class Workload(msgspec.Struct, frozen=True):
    """One application, as large as it was run."""

    name: str
    title: str
    what: str
    """One sentence with the sizes in it."""
    moves: str
    """One sentence: which data its tasks take and give."""


class Measured(msgspec.Struct, frozen=True):
    """One application on one engine with one way for its data."""

    workload: str
    engine: str
    by_proxy: bool
    makespans: list[float]
    """Seconds of each run, in order; the workers were up before the first."""
    startup: float
    """Seconds until the engine and its workers were ready."""
    tasks: int
    """Tasks of one run."""
    scheduler_bytes: int | None
    """Bytes of one run into and out of the process that schedules; None where they cannot be counted."""
    worker_bytes: int | None
    """Bytes of one run from worker to worker on the engine's own ways; None for engines without any."""
    stored_bytes: int
    """Bytes of one run put into shared memory."""
    stored_objects: int
    """Objects of one run put into shared memory."""
    baseline_memory: int
    """Bytes before the first run."""
    peak_memory: int
    """Most bytes seen while runs were going on."""
    trace: list[Sample]
    check: str
    """How the result was checked, with the figure."""
    digest: str
    """Of the result; variants of one workload agree on it."""

    @property
    def data(self) -> str:
        """How the data travelled, in words."""
        return "by proxy" if self.by_proxy else "by value"

    @property
    def makespan(self) -> float:
        """The median of the runs, seconds."""
        return statistics.median(self.makespans)


class Comparison(msgspec.Struct, frozen=True):
    """The same work by value and by proxy."""

    workload: Workload
    value: Measured
    proxy: Measured

    @property
    def speedup(self) -> float:
        """How many times faster the proxy is; below 1 it is slower."""
        return self.value.makespan / self.proxy.makespan

    @property
    def clear(self) -> bool:
        """Whether no run of one was as fast as any of the other."""
        return (
            min(self.value.makespans) > max(self.proxy.makespans)
            or min(self.proxy.makespans) > max(self.value.makespans)
        ) and abs(self.speedup - 1) > 0.02

    @property
    def verdict(self) -> str:
        """``faster``, ``slower`` or ``equal``, where equal means that these runs cannot tell."""
        return "equal" if not self.clear else "faster" if self.speedup > 1 else "slower"

    @property
    def headline(self) -> str:
        """The verdict with its factor, in words."""
        if self.verdict == "equal":
            return "no clear difference"
        factor = max(self.speedup, 1 / self.speedup)
        return f"{times_text(factor)} {self.verdict}"

    @property
    def scheduler_ratio(self) -> float | None:
        """Bytes through the scheduler by value over those by proxy."""
        if self.value.scheduler_bytes is None or not self.proxy.scheduler_bytes:
            return None
        return self.value.scheduler_bytes / self.proxy.scheduler_bytes

    @property
    def memory_ratio(self) -> float:
        """Peak memory by proxy over peak memory by value."""
        return self.proxy.peak_memory / self.value.peak_memory

    def losses(self) -> list[str]:
        """Return where the proxy is the worse choice here, a sentence each."""
        lost = []
        where = f"{self.workload.title}, {self.value.engine}"
        if self.verdict == "slower":
            mean = self.proxy.stored_bytes / max(1, self.proxy.stored_objects)
            lost.append(
                f"{where}: {times_text(1 / self.speedup)} slower by proxy "
                f"({seconds_text(self.proxy.makespan)} against {seconds_text(self.value.makespan)}). "
                f"It stored {self.proxy.stored_objects} objects of {bytes_text(mean)} on average; where "
                "objects are small, what a store costs for each can be more than the copies it saves."
            )
        elif self.verdict == "equal":
            lost.append(
                f"{where}: the runs overlap ({seconds_text(self.value.makespan)} by value, "
                f"{seconds_text(self.proxy.makespan)} by proxy), so nothing is gained in time."
            )
        if self.memory_ratio > 1.05:
            lost.append(
                f"{where}: peak memory is {times_text(self.memory_ratio)} that of passing by value "
                f"({bytes_text(self.proxy.peak_memory)} against {bytes_text(self.value.peak_memory)}); "
                "what is in shared memory stays there until the run ends."
            )
        if self.scheduler_ratio is not None and self.scheduler_ratio < 1:
            lost.append(f"{where}: more bytes pass the scheduler by proxy than by value.")
        return lost


class Report(msgspec.Struct, frozen=True):
    """A whole demo."""

    when: str
    """UTC, ISO 8601."""
    command: str
    """What to type to run it again."""
    seconds: float
    """From the start of the command to its last result."""
    workers: int
    interval: float
    """Seconds between two samples of memory."""
    machine: dict[str, str]
    versions: dict[str, str]
    workloads: list[Workload]
    measured: list[Measured]

    def comparisons(self) -> list[Comparison]:
        """Pair what was measured by value with its twin by proxy, in order."""
        twins = {(m.workload, m.engine): m for m in self.measured if m.by_proxy}
        named = {w.name: w for w in self.workloads}
        return [
            Comparison(named[m.workload], m, twins[m.workload, m.engine])
            for m in self.measured
            if not m.by_proxy and (m.workload, m.engine) in twins
        ]

    def check(self, workload: Workload) -> str:
        """Return how the result of a workload was checked."""
        return next(m.check for m in self.measured if m.workload == workload.name)

    def agree(self) -> bool:
        """Whether every variant of each workload had the same result, to the last bit."""
        return all(
            len({m.digest for m in self.measured if m.workload == w.name}) == 1
            for w in self.workloads
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain builtins, with the derived figures, for JSON."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        built["comparisons"] = [
            {
                "workload": c.workload.name,
                "engine": c.value.engine,
                "verdict": c.verdict,
                "speedup": c.speedup,
                "scheduler_bytes_ratio": c.scheduler_ratio,
                "peak_memory_ratio": c.memory_ratio,
            }
            for c in self.comparisons()
        ]
        built["results_agree"] = self.agree()
        return built


def times_text(factor: float) -> str:
    """Return a factor as ``2.4×``, with as many digits as mean something."""
    return (
        f"{factor:.2f}×" if factor < 2 else f"{factor:.1f}×" if factor < 100 else f"{factor:,.0f}×"
    )
