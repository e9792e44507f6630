"""Connectors: bytes in, bytes out: memory, shared memory, files, Redis, ZeroMQ, and what others add."""

from __future__ import annotations

from typing import Any

from isthmus.connectors.protocol import (
    BellConnector,
    Buffer,
    Connector,
    HoldingConnector,
    LeasingConnector,
    ListableConnector,
    ObjectInfo,
    Payload,
    RangeConnector,
    ReservingConnector,
    TypedConnector,
    WaitingConnector,
)
from isthmus.spec import Registry

__all__ = [
    "BellConnector",
    "Buffer",
    "Connector",
    "HoldingConnector",
    "LeasingConnector",
    "ListableConnector",
    "ObjectInfo",
    "Payload",
    "RangeConnector",
    "ReservingConnector",
    "TypedConnector",
    "WaitingConnector",
    "connectors",
]

connectors: Registry[type[Connector[Any]]] = Registry(
    "connector",
    "isthmus.connectors",
    {
        "memory": "isthmus.connectors.memory:MemoryConnector",
        "shm": "isthmus.connectors.shm:SharedMemoryConnector",
        "file": "isthmus.connectors.file:FileConnector",
        "redis": "isthmus.connectors.redis:RedisConnector",
        "zmq": "isthmus.connectors.zmq:ZmqConnector",
        "multi": "isthmus.connectors.multi:MultiConnector",
        "encrypted": "isthmus.connectors.encrypted:EncryptedConnector",
    },
)
"""Every connector by kind; ``connectors.get(kind).from_config(options)`` opens one."""
