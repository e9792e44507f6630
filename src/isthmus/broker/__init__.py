"""Append-only logs: append, read in order, acknowledge, trim, doorbell; in memory, SQLite, Redis, NATS.

What streams and the mailboxes of agents share. A broker moves opaque bytes: it decodes nothing.
"""

from __future__ import annotations

from isthmus.broker.protocol import Broker, Delivery, Group, Log, LogInfo, Progress, Record
from isthmus.spec import Registry

__all__ = ["Broker", "Delivery", "Group", "Log", "LogInfo", "Progress", "Record", "brokers"]

brokers: Registry[type[Broker]] = Registry(
    "broker",
    "isthmus.brokers",
    {
        "memory": "isthmus.broker.memory:MemoryBroker",
        "sqlite": "isthmus.broker.sqlite:SQLiteBroker",
        "redis": "isthmus.broker.redis:RedisBroker",
        "nats": "isthmus.broker.nats:NatsBroker",
    },
)
"""Every broker by kind; ``brokers.get(kind).from_config(options)`` makes one."""
