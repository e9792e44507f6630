"""Leases of connectors that keep objects in folders or in this process's memory.

`terms` is what `put` is told, `folder` the files that say until when, `upkeep` the thread that sweeps.
"""

from isthmus.connectors.leases.folder import LeaseFolder, Storage, Swept, stale
from isthmus.connectors.leases.terms import Terms, clock_id, now, terms
from isthmus.connectors.leases.upkeep import OFTEN_SECONDS, Upkept, upkeep

__all__ = [
    "OFTEN_SECONDS",
    "LeaseFolder",
    "Storage",
    "Swept",
    "Terms",
    "Upkept",
    "clock_id",
    "now",
    "stale",
    "terms",
    "upkeep",
]
