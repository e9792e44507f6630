"""What a ZeroMQ connector is told, and which of this node's addresses its server listens at."""

from __future__ import annotations

import fcntl
import ipaddress
import math
import re
import socket
import struct
from typing import Any

from isthmus.errors import SpecError
from isthmus.spec import Spec, require

__all__ = ["MOST_CHUNK_BYTES", "ZmqSpec", "check", "is_loopback", "listening_address", "tcp", "zmq"]

MOST_CHUNK_BYTES = 1 << 24
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_LONGEST_TIMEOUT = 1e6  # ZeroMQ counts at most 2³¹ ms
_SIOCGIFADDR = 0x8915  # Linux: linux/sockios.h


class ZmqSpec(Spec):
    """How the processes of a node share a server, and how those of other nodes reach it."""

    name: str = "default"
    address: str = ""
    """Of the node the process runs on: interface, network ``10.1.0.0/16``, host name or IP address."""
    port: int = 0
    key: str = ""
    """Reference to the secret key: ``env:NAME`` or ``file:PATH``; empty for this user's own file."""
    linger: float = 0.0
    """Seconds that the server outlives its last user."""
    max_bytes: int | None = None
    chunk_bytes: int = 1 << 22
    timeout: float = 30.0
    """Seconds that a server may keep silent."""


def check(spec: ZmqSpec) -> None:
    """Refuse what cannot work.

    Raises:
        SpecError: says which field.
    """
    problem = ""
    if not _NAME.fullmatch(spec.name):
        problem = f"name {spec.name!r} must be 1 to 32 letters, digits, '_', '.' or '-'"
    elif not 0 <= spec.port <= 65535:
        problem = f"port must lie between 0 (any free one) and 65535, got {spec.port}"
    elif not 4096 <= spec.chunk_bytes <= MOST_CHUNK_BYTES:
        problem = (
            f"chunk_bytes must lie between 4096 and {MOST_CHUNK_BYTES}, got {spec.chunk_bytes}"
        )
    elif spec.max_bytes is not None and spec.max_bytes < 0:
        problem = f"max_bytes must not be negative, got {spec.max_bytes}"
    elif not 0 <= spec.linger < math.inf:
        problem = f"linger must be 0 or more seconds, and finite, got {spec.linger}"
    elif not 0 < spec.timeout <= _LONGEST_TIMEOUT:
        problem = f"timeout must be above 0 and at most {_LONGEST_TIMEOUT:g} s, got {spec.timeout}"
    if problem:
        raise SpecError("ZmqConnector", problem)


def zmq() -> Any:
    """Return pyzmq.

    Raises:
        MissingExtraError: it is not installed.
        SpecError: it was built without CURVE.
    """
    module = require("zmq", extra="zmq", what="the zmq connector")
    if not module.has("curve"):
        raise SpecError(
            "ZmqConnector", "this libzmq was built without CURVE; install pyzmq's wheel"
        )
    return module


def tcp(address: str, port: int) -> str:
    """Return the endpoint, as ZeroMQ writes it."""
    return f"tcp://[{address}]:{port}" if ":" in address else f"tcp://{address}:{port}"


def is_loopback(address: str) -> bool:
    """Return whether an address leads every node to itself."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def listening_address(wanted: str) -> str:
    """Return the IP address of this node that `wanted` means.

    Args:
        wanted: an interface's name; a network, for this node's address in it; a host name or an IP
            address; nothing, for the address that packets leave from by default.

    Raises:
        SpecError: this node has none.
    """
    if not wanted:
        return _default_address()
    interfaces = dict(_interfaces())
    if wanted in interfaces:
        return interfaces[wanted]
    if "/" in wanted:
        try:
            network = ipaddress.ip_network(wanted, strict=False)
        except ValueError as error:
            raise SpecError("ZmqConnector", f"address: {error}") from None
        found = [a for a in interfaces.values() if ipaddress.ip_address(a) in network]
        if found:
            return found[0]
    else:
        try:
            return str(ipaddress.ip_address(wanted))
        except ValueError:
            pass
        try:
            return str(socket.getaddrinfo(wanted, None, type=socket.SOCK_STREAM)[0][4][0])
        except OSError:
            pass
    has = ", ".join(f"{name} {address}" for name, address in interfaces.items()) or "none"
    raise SpecError(
        "ZmqConnector",
        f"address {wanted!r} is no interface, network or host name of {socket.gethostname()}; its "
        f"interfaces: {has}",
    )


def _interfaces() -> list[tuple[str, str]]:
    """Return the IPv4 address of each interface that has one."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                request = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue  # without an IPv4 address
            found.append((name, socket.inet_ntoa(answer[20:24])))
    return found


def _default_address() -> str:
    # Nothing is sent: to connect a datagram socket only asks the kernel for a route.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # reserved for documentation, RFC 5737
        except OSError:
            return "127.0.0.1"  # no network
        return str(probe.getsockname()[0])
