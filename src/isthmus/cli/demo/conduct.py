"""Runs variants in turn, each in an interpreter of its own, and watches their memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import msgspec

from isthmus.cli.demo.events import Begun, Ended, Event, Go, Plan, Ready, decode, encode
from isthmus.cli.demo.memory import Sampler
from isthmus.cli.demo.report import Measured, Sample
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["ENGINES", "Rounds", "Variant", "Watcher", "conduct"]

ENGINES = {"process": "process pool", "dask": "Dask"}
E = TypeVar("E", Ready, Ended)

PATIENCE = 10.0
"""Seconds that a variant gets to leave after it was told to."""


class Rounds(NamedTuple):
    """How often the variants of a pair take their turns."""

    least: int
    most: int
    budget: float
    """Seconds of runs after which no further round begins, once there were `least`."""

    def enough(self, done: int, spent: float) -> bool:
        """Return whether to stop; a slow machine makes two rounds, else a minute is not enough."""
        least = self.least if spent < 2 * self.budget else min(2, self.least)
        return done >= least and spent > self.budget


class Watcher(Protocol):
    """Hears of progress; shows it."""

    def started(self, plan: Plan) -> None:
        """A variant begins."""
        ...

    def heard(self, plan: Plan, event: Event) -> None:
        """A variant said something."""
        ...

    def finished(self, plan: Plan, measured: Measured) -> None:
        """A variant is done."""
        ...


class Variant:
    """A running variant: told to run, listened to, watched.

    Args:
        plan: what it does.
        process: it.
        sampler: of its memory.
        watcher: hears what it says.
    """

    def __init__(
        self, plan: Plan, process: subprocess.Popen[bytes], sampler: Sampler, watcher: Watcher
    ) -> None:
        self.plan = plan
        self._process = process
        self._sampler = sampler
        self._watcher = watcher
        self.begun: list[Begun] = []
        self.ended: list[Ended] = []
        self.ready = self._hear(Ready)

    def run(self, verified: str) -> Ended:
        """Run once; `verified` is the digest of a result that was checked before."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone; `_process` tells why
            self._process.stdin.write(encode(Go(verified)) + b"\n")
            self._process.stdin.flush()
        ended = self._hear(Ended)
        self.ended.append(ended)
        return ended

    def _hear(self, kind: type[E]) -> E:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = decode(line)
            self._watcher.heard(self.plan, event)
            if isinstance(event, Begun):
                self.begun.append(event)
            if isinstance(event, kind):
                return event
        raise _GoneError

    def measured(self, check: str) -> Measured:
        """Return what all runs together say."""
        trace: list[Sample] = []
        before = 0.0
        for begin, end in zip(self.begun, self.ended, strict=True):
            trace += [
                Sample(round(before + at - begin.at, 3), total)
                for at, total in self._sampler.samples
                if begin.at <= at <= end.at
            ]
            before += end.at - begin.at
        idle = [total for at, total in self._sampler.samples if at < self.begun[0].at]
        figures: dict[str, Any] = msgspec.to_builtins(self.ended[-1])
        for name in ("type", "at", "makespan", "check"):
            figures.pop(name)
        return Measured(
            **figures,
            check=check,
            workload=self.plan.workload,
            engine=ENGINES[self.plan.engine],
            by_proxy=self.plan.by_proxy,
            makespans=[e.makespan for e in self.ended],
            startup=self.ready.startup,
            baseline_memory=idle[-1] if idle else 0,
            peak_memory=max((s.total for s in trace), default=0),
            trace=trace or [Sample(0.0, 0)],
        )


class _GoneError(Exception):
    """A variant stopped talking."""


def conduct(
    plans: Sequence[Plan],
    watcher: Watcher,
    *,
    rounds: Rounds,
    folders: Callable[[str], list[str]],
    interval: float,
    checked: dict[str, str],
) -> tuple[list[Measured], str]:
    """Run variants of one workload in turn: first, second, first, second, ...

    Whatever else the machine does meets both alike. A variant that waits for its turn is idle.

    Args:
        plans: what to run.
        watcher: hears of progress.
        rounds: how many.
        folders: where the shared memory of a named space lies.
        interval: seconds between samples of memory.
        checked: digest of a checked result to how it was checked; grows.

    Returns:
        What was measured, in the order of the plans, and the workload in a sentence.

    Raises:
        BrokenError: a variant failed; the message has the end of what it wrote to stderr.
    """
    with contextlib.ExitStack() as opened:
        variants = []
        for plan in plans:
            watcher.started(plan)
            process = opened.enter_context(_process(plan))
            space = folders(plan.space) if plan.by_proxy else []
            sampler = opened.enter_context(Sampler(process.pid, space, interval))
            variants.append(Variant(plan, process, sampler, watcher))
        spent = 0.0
        for done in range(rounds.most):
            if rounds.enough(done, spent):
                break
            for variant in variants:
                known = next(iter(checked), "") if not variant.ended else variant.ended[-1].digest
                ended = variant.run(known)
                if ended.check:
                    checked[ended.digest] = ended.check
                spent += ended.makespan
    measured = [v.measured(checked[v.ended[-1].digest]) for v in variants]
    for plan, found in zip(plans, measured, strict=True):
        watcher.finished(plan, found)
    return measured, variants[0].ready.what


@contextlib.contextmanager
def _process(plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    """Start a variant as the head of a process group, and leave nothing of the group behind."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "isthmus.cli.demo.variant", encode(plan).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # so that Ctrl-C reaches it through us, once
        )
        assert process.stdin is not None
        assert process.stdout is not None
        with process.stdout:
            try:
                yield process
                process.stdin.close()  # that was the last run
                code = process.wait(PATIENCE)
            except _GoneError:
                code = process.wait(PATIENCE)
                if not code:
                    raise
            except BaseException:
                _end(process)
                raise
            finally:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        if code:
            stderr.seek(0)
            last = stderr.read().decode(errors="replace").strip().splitlines()
            raise BrokenError(
                f"the demo's variant {plan.workload}, {ENGINES[plan.engine]}, "
                f"{'by proxy' if plan.by_proxy else 'by value'} ended with code {code}",
                last[-1] if last else "it said nothing",
            )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a variant, so that it takes its workers and their semaphores along; kill it if it won't."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
