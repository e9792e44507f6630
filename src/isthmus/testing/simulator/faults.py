"""How bad a history's world is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from random import Random

__all__ = ["Faults"]


class Faults(msgspec.Struct, frozen=True):
    """Probabilities and rates of what goes wrong until a history's `heal`; after it nothing does.

    Times are seconds of the virtual clock.
    """

    #: Probability that a message vanishes, on a path that may lose.
    loss: float = 0.0
    #: Probability that a message comes twice.
    duplication: float = 0.0
    #: Mean of the delay of a message, exponentially distributed.
    delay: float = 0.01
    #: Whether messages overtake each other.
    reordering: bool = False
    #: Crashes a second, over all nodes; and the mean time that a node is down.
    crashes: float = 0.0
    downtime: float = 0.5
    #: Partitions a second, of one node from one other in one or both directions; and their mean length.
    partitions: float = 0.0
    separation: float = 0.5
    #: Changes a second of the path between two nodes; what is on the path that is left is lost or late.
    switches: float = 0.0
    #: How far the rates of nodes' clocks are off, at most: 0.02 is two percent either way.
    drift: float = 0.0
    #: When all this ends.
    heal: float = 5.0

    @classmethod
    def draw(cls, random: Random, *, heal: float = 5.0) -> Faults:
        """Return faults of random kinds and strengths.

        Each kind is left out of half of all histories: a world in which everything goes wrong at once hides
        what one kind of fault would show.
        """

        def some(low: float, high: float) -> float:
            strength = random.uniform(low, high)
            return strength if random.random() < 0.5 else 0.0

        return cls(
            loss=some(0.01, 0.3),
            duplication=some(0.01, 0.3),
            delay=random.choice((0.001, 0.01, 0.1)),
            reordering=random.random() < 0.5,
            crashes=some(0.2, 2.0),
            downtime=random.choice((0.01, 0.3, 1.0)),
            partitions=some(0.2, 2.0),
            separation=random.choice((0.1, 0.5, 2.0)),
            switches=some(0.2, 4.0),
            drift=some(0.001, 0.02),
            heal=heal,
        )
