"""Many histories; one again; and what a failing one needs to fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from isthmus.testing.simulator.delivery import Delivery
from isthmus.testing.simulator.leases import Leases
from isthmus.testing.simulator.migration import Migration
from isthmus.testing.simulator.world import Violation, World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.testing.simulator.faults import Faults

__all__ = ["SCENARIOS", "Failure", "History", "explore", "replay", "shrink"]


class History(Protocol):
    """One history, made of a seed; `run` raises `Violation` if a promise is broken in it."""

    world: World

    def run(self) -> World:
        """Let it happen."""


class Scenario(Protocol):
    """A class of histories."""

    def __call__(self, seed: int, faults: Faults | None = None) -> History:
        """Return the history of a seed, not begun yet."""


SCENARIOS: dict[str, Scenario] = {"delivery": Delivery, "migration": Migration, "leases": Leases}


class Failure(msgspec.Struct, frozen=True):
    """A history in which a promise was broken."""

    seed: int
    promise: str
    #: What happened, as a hash; `replay` comes to the same.
    digest: str
    #: The violation's text, with the last events.
    text: str


def replay(scenario: Scenario, seed: int, faults: Faults | None = None) -> Failure | str:
    """Run one history; return how it failed, or the hash of all that happened.

    The same seed (and faults, if given) goes the same way each time, in every process. Any other error of
    the protocol's is raised as it is, with a note of the seed and the last events.
    """
    history = scenario(seed, faults)
    try:
        history.run()
    except Violation as violation:
        return Failure(seed, violation.args[0], history.world.digest(), str(violation))
    except Exception as error:
        error.add_note(history.world.story())
        raise
    return history.world.digest()


def explore(scenario: Scenario, seeds: Iterable[int]) -> Failure | None:
    """Run histories until one fails; return that, or None."""
    for seed in seeds:
        outcome = replay(scenario, seed)
        if isinstance(outcome, Failure):
            return outcome
    return None


def shrink(scenario: Scenario, failure: Failure) -> tuple[Faults, Failure]:
    """Leave out kinds of faults, and time, as long as the history still fails; return what is left.

    A history with fewer faults is another one. That it fails too, perhaps in another way, is what makes it
    worth reading first.
    """
    faults = scenario(failure.seed).world.faults
    smaller: list[dict[str, float | bool]] = [
        {"loss": 0.0}, {"duplication": 0.0}, {"reordering": False}, {"crashes": 0.0},
        {"partitions": 0.0}, {"switches": 0.0}, {"drift": 0.0}, {"heal": 2.0}, {"heal": 1.0}, {"heal": 0.5},
    ]  # fmt: skip
    for change in smaller:
        candidate = msgspec.structs.replace(faults, **change)
        if candidate != faults and isinstance(
            outcome := replay(scenario, failure.seed, candidate), Failure
        ):
            faults, failure = candidate, outcome
    return faults, failure
