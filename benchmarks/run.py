"""`python -m benchmarks.run [SECTION ...] [--quick] [--write]`: measure, print, keep."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence

from benchmarks import report
from benchmarks.harness import Result, measure
from benchmarks.machine import facts
from benchmarks.peers import Workers

SECTIONS = [
    "proxy",
    "codec",
    "connectors",
    "store",
    "redis",
    "zmq",
    "patterns",
    "wire",
    "net",
    "broker",
    "colmena",
    "stream",
    "imports",
    "engine",
]


def run_section(section: str, *, only: str = "", quick: bool = False) -> tuple[str, list[Result]]:
    """Measure the cases of one section whose name contains `only`, printing each as it is done."""
    module = importlib.import_module(f"benchmarks.{section}")
    print(f"\n== {module.TITLE}", flush=True)
    results = []
    for case in module.cases(quick):
        if only not in case.name:
            continue
        start = time.monotonic()
        # Fresh processes: what one case leaves in an allocator or a cache is no advantage of the next.
        with Workers() as workers:
            result = measure(case, workers, quick=quick)
        results.append(result)
        _print(result, time.monotonic() - start)
    return module.TITLE, results


def _print(result: Result, took: float) -> None:
    case = report.as_json("", {}, [result], quick=False)["cases"][0]
    for name, ours, against, figure, target, verdict in report.rows(case):
        verdict = verdict.strip("*")
        print(
            f"{name[:44]:44} {ours:>16}  | {against:48} | {figure:24} {target:24} {verdict}  ({took:.0f} s)"
        )
    for side, error in result.errors.items():
        print(f"    {side} failed: {error}")
    sys.stdout.flush()


def main(sections: Sequence[str] = (), argv: Sequence[str] | None = None) -> int:
    """Run the sections named (all if none).

    A missed target is a result, not a failure: the exit code is 0.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    if not sections:
        parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument(
        "--quick", action="store_true", help="few rounds: does it run, roughly how fast"
    )
    parser.add_argument(
        "--write", action="store_true", help="publish: benchmarks/results, RESULTS.md"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains it")
    options = parser.parse_args(argv)
    chosen = list(sections or options.sections or SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"no section {sorted(unknown)}; there are {', '.join(SECTIONS)}")
    if options.only and options.write:
        parser.error("--write publishes whole sections; leave --only out")

    for section in chosen:
        machine = facts()
        title, results = run_section(section, only=options.only, quick=options.quick)
        data = report.as_json(title, machine, results, quick=options.quick)
        report.save(section, data, publish=options.write)
        if missing := report.missing_notes(section, data):
            print(
                f"missed, and benchmarks/notes.toml [{section}] does not say why: {', '.join(missing)}"
            )
    print(f"\nraw samples: {report.OUT.relative_to(report.HOME.parent)}/")
    if options.write:
        print(f"written: {report.write_markdown(SECTIONS).relative_to(report.HOME.parent)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
