"""A deterministic simulator for protocols that are pure state machines.

A :class:`World` holds :class:`Node` objects, a network that loses, delays, doubles, reorders and cuts, and
a clock that never waits. One seed decides everything, so a history that fails is run again exactly.
`Delivery`, `Migration` and `Leases` are the scenarios of isthmus's own protocols;
``python -m isthmus.testing.simulator`` runs them.
"""

from isthmus.testing.simulator.delivery import Agent, Client, Delivery
from isthmus.testing.simulator.disk import Disk
from isthmus.testing.simulator.explore import SCENARIOS, Failure, History, explore, replay, shrink
from isthmus.testing.simulator.faults import Faults
from isthmus.testing.simulator.leases import Holder, Leases, Storage, Sweeper
from isthmus.testing.simulator.member import Member
from isthmus.testing.simulator.migration import Hub, Migration, Replica
from isthmus.testing.simulator.world import Node, Violation, World

__all__ = [
    "SCENARIOS",
    "Agent",
    "Client",
    "Delivery",
    "Disk",
    "Failure",
    "Faults",
    "History",
    "Holder",
    "Hub",
    "Leases",
    "Member",
    "Migration",
    "Node",
    "Replica",
    "Storage",
    "Sweeper",
    "Violation",
    "World",
    "explore",
    "replay",
    "shrink",
]
