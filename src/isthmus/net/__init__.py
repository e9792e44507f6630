"""Connections between processes: TCP, TLS, unix sockets and WebSocket behind one interface, and the bridge
between synchronous code and asyncio.

This is the only package that opens sockets of its own. What travels is `isthmus.wire`'s.
"""

from __future__ import annotations

from isthmus.net.address import Address
from isthmus.net.bridge import Bridge
from isthmus.net.connection import Connection
from isthmus.net.limits import Limits
from isthmus.net.listener import Listener, listen
from isthmus.net.opening import connect
from isthmus.net.tls import TLS, fingerprint
from isthmus.wire.frames import Frame
from isthmus.wire.handshake import Offer, Peer

__all__ = [
    "TLS",
    "Address",
    "Bridge",
    "Connection",
    "Frame",
    "Limits",
    "Listener",
    "Offer",
    "Peer",
    "connect",
    "fingerprint",
    "listen",
]
