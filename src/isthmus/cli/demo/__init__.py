"""``isthmus demo``, the main job: the same work by value and by proxy, measured and told honestly."""

from __future__ import annotations

import json
import os
import shlex
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import isthmus
from isthmus.cli.arguments import Parser
from isthmus.cli.machine import Machine
from isthmus.cli.quantities import bytes_text, seconds_text
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.cli.demo.report import Report

__all__ = ["main"]

NEEDED = ("numpy", "pydantic", "rich", "distributed")
INTERVAL = 0.05
"""Seconds between samples of memory: short against the runs, and cheap."""


def main(argv: Sequence[str]) -> int:
    """Run the demo; 1 if results do not agree, else 0."""
    begin = time.monotonic()
    parser = Parser(
        "isthmus demo",
        description="Word frequencies over the Python standard library's own sources and a tiled Cholesky, "
        "each on a process pool and on Dask, data by value and by proxy through shared memory. No server; "
        "under a minute on two cores.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes and two rounds: a look, no measurement"
    )
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    parser.add_argument(
        "--report",
        default="demo-report.html",
        metavar="PATH",
        help="the page (default: %(default)s)",
    )
    parser.add_argument("--no-report", action="store_true", help="write no page")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="workers of each engine (2)"
    )
    options = parser.parse_args(argv)
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    for module in NEEDED:
        require(module, extra="demo", what="isthmus demo")
    if not options.no_report:
        with open(
            options.report, "a"
        ):  # a path that cannot be written is told now, not in a minute
            pass
    report = _measure(options, begin, argv)
    if not options.no_report:  # before printing, whose reader may go away
        from isthmus.cli.demo.page import page

        with open(options.report, "w", encoding="utf-8") as file:
            file.write(page(report))
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
        return 0 if report.agree() else 1
    from isthmus.cli.demo.terminal import show

    show(report)
    where = "" if options.no_report else f"; report: {os.path.abspath(options.report)}"
    print(f"{seconds_text(report.seconds)} in all{where}")
    return 0 if report.agree() else 1


def _measure(options: Any, begin: float, argv: Sequence[str]) -> Report:
    from isthmus.cli.demo.conduct import conduct
    from isthmus.cli.demo.plan import QUICK, ROUNDS, folders, pairs, space
    from isthmus.cli.demo.report import Measured, Report, Workload
    from isthmus.cli.demo.terminal import Live
    from isthmus.cli.demo.workloads import WORKLOADS

    here = Machine.here()
    busy = _busy(here)
    measured: list[Measured] = []
    said: dict[str, str] = {}
    checked: dict[str, dict[str, str]] = {name: {} for name in WORKLOADS}
    with space() as name, Live({w.name: w.title for w in WORKLOADS.values()}) as live:
        for plans in pairs(name, workers=options.workers, quick=options.quick):
            workload = plans[0].workload
            found, said[workload] = conduct(
                plans,
                live,
                rounds=QUICK if options.quick else ROUNDS,
                folders=folders,
                interval=INTERVAL,
                checked=checked[workload],
            )
            measured += found
    return Report(
        when=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        command=shlex.join(["isthmus", "demo", *argv]),
        seconds=time.monotonic() - begin,
        workers=options.workers,
        interval=INTERVAL,
        busy=busy,
        machine=_machine(here),
        versions=_versions(),
        workloads=[Workload(w.name, w.title, said[w.name], w.moves) for w in WORKLOADS.values()],
        measured=measured,
    )


def _busy(here: Machine) -> str:
    load = os.getloadavg()[0]
    if load < here.cores / 2:
        return ""
    return (
        f"The machine was busy when the demo began (load {load:.1f} on {here.cores:g} cores): times "
        "are longer and less certain than on a quiet one."
    )


def _machine(here: Machine) -> dict[str, str]:
    memory = here.shared_memory
    return {
        "System": here.system,
        "Processor": here.processor,
        "Cores": f"{here.cores:g} of {here.cores_present}",
        "Memory": f"{bytes_text(here.memory)}, {bytes_text(here.memory_available)} available",
        "Shared memory": f"{bytes_text(memory.total)}, {bytes_text(memory.free)} free"
        if memory
        else "none",
        "Python": here.python,
    }


def _versions() -> dict[str, str]:
    from isthmus.proxy import implementation

    found = {
        "isthmus": isthmus.__version__,
        "isthmus.proxy": f"the {implementation} implementation",
    }
    for name in ("numpy", "dask", "distributed", "cloudpickle", "msgspec"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
