"""`python -m isthmus.testing.simulator [--histories N] [--seed N] [--scenario NAME] [--replay]`."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from isthmus.testing.simulator.explore import SCENARIOS, Failure, replay, shrink

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run histories, the scenarios taking turns; stop at the first that fails. Exit code 1 if one did."""
    parser = argparse.ArgumentParser(
        prog="python -m isthmus.testing.simulator", description=__doc__
    )
    parser.add_argument("--histories", type=int, default=300, metavar="N", help="how many (300)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the first one's seed (1)")
    parser.add_argument(
        "--scenario", choices=sorted(SCENARIOS), action="append", help="all by default"
    )
    parser.add_argument(
        "--replay", action="store_true", help="the one history of --seed, and its hash"
    )
    options = parser.parse_args(argv)
    names = options.scenario or list(SCENARIOS)
    if options.replay and len(names) > 1:
        parser.error("--replay needs the one --scenario that the seed is of")
    count = 1 if options.replay else options.histories
    began = said = time.monotonic()
    for number in range(count):
        seed, name = options.seed + number, names[number % len(names)]
        outcome = replay(SCENARIOS[name], seed)
        if isinstance(outcome, Failure):
            _report(name, outcome)
            return 1
        if options.replay:
            print(f"{name} {seed}: {outcome}")
        elif time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{number + 1} of {count} histories, {said - began:.0f} s", file=sys.stderr)
    took = time.monotonic() - began
    print(f"{count} histories of {', '.join(names)}: every promise kept ({took:.1f} s)")
    return 0


def _report(name: str, failure: Failure) -> None:
    print(failure.text)
    print(f"hash of all events: {failure.digest}")
    faults, smaller = shrink(SCENARIOS[name], failure)
    print(f"\nit still fails ({smaller.promise}) with no more than\n  {faults}")
    command = (
        f"python -m isthmus.testing.simulator --replay --scenario {name} --seed {failure.seed}"
    )
    print(f"\nagain: {command}")


if __name__ == "__main__":
    raise SystemExit(main())
