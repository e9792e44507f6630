"""Runs the variants one after another, each in a fresh interpreter, and watches their memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from isthmus.cli.demo.events import Begun, Ended, Event, Plan, Ready, decode, encode
from isthmus.cli.demo.memory import Sampler
from isthmus.cli.demo.report import Measured, Sample
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ENGINES", "Watcher", "conduct"]

ENGINES = {"process": "process pool", "dask": "Dask"}
PATIENCE = 10.0
"""Seconds that a variant gets to leave after it was told to."""


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


def conduct(
    plan: Plan, watcher: Watcher, *, folders: Callable[[str], list[str]], interval: float
) -> tuple[Measured, str]:
    """Run one variant.

    Args:
        plan: what to run.
        watcher: hears of progress.
        folders: where the shared memory of a named space lies.
        interval: seconds between samples of memory.

    Returns:
        What was measured, and the workload in a sentence.

    Raises:
        BrokenError: the variant failed; the message has the end of what it wrote to stderr.
    """
    watcher.started(plan)
    startup = 0.0
    begun: list[Begun] = []
    ended: list[Ended] = []
    with _process(plan) as process, Sampler(process.pid, folders(plan.space), interval) as sampler:
        for line in process.stdout or ():
            event = decode(line)
            watcher.heard(plan, event)
            if isinstance(event, Ready):
                startup = event.startup
            elif isinstance(event, Begun):
                begun.append(event)
            elif isinstance(event, Ended):
                ended.append(event)
    measured = _measured(plan, startup, begun, ended, sampler.samples)
    watcher.finished(plan, measured)
    return measured, ended[-1].what


@contextlib.contextmanager
def _process(plan: Plan) -> Iterator[subprocess.Popen[bytes]]:
    """Start a variant as the head of a process group, and leave nothing of the group behind."""
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "isthmus.cli.demo.variant", encode(plan).decode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # so that Ctrl-C reaches it through us, once
        )
        try:
            with process.stdout or contextlib.nullcontext():
                yield process
            code = process.wait(PATIENCE)
        except BaseException:
            _end(process)
            raise
        if code:
            stderr.seek(0)
            last = stderr.read().decode(errors="replace").strip().splitlines()
            raise BrokenError(
                f"the demo's variant {plan.workload}, {plan.engine}, "
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


def _measured(
    plan: Plan,
    startup: float,
    begun: list[Begun],
    ended: list[Ended],
    samples: list[tuple[float, int]],
) -> Measured:
    first = begun[0].at
    during = [
        Sample(round(at - first, 3), total)
        for at, total in samples
        if any(b.at <= at <= e.at for b, e in zip(begun, ended, strict=True))
    ]
    before = [total for at, total in samples if at < first]
    figures: dict[str, Any] = msgspec.to_builtins(ended[-1])
    for name in ("type", "run", "at", "makespan", "what"):
        figures.pop(name)
    return Measured(
        **figures,
        workload=plan.workload,
        engine=ENGINES[plan.engine],
        by_proxy=plan.by_proxy,
        makespans=[e.makespan for e in ended],
        startup=startup,
        baseline_memory=before[-1] if before else 0,
        peak_memory=max((s.total for s in during), default=0),
        trace=during or [Sample(0.0, 0)],
    )
