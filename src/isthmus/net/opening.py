"""From an address or an accepted socket to a connection: socket, TLS, WebSocket, then our handshake."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from isthmus.errors import AddressError, BrokenError, IsthmusError, WaitTimeoutError
from isthmus.net.address import Address
from isthmus.net.connection import Connection
from isthmus.net.limits import Limits
from isthmus.net.link import SocketLink, TLSLink, ready
from isthmus.net.tls import TLS, secure, translate
from isthmus.wire.handshake import Agreed, Handshake, Offer

if TYPE_CHECKING:
    from typing import Any

    from isthmus.net.link import Link
    from isthmus.net.tls import Secured

__all__ = ["connect"]

QUEUE_SECONDS = 0.005
"""Between attempts to enter the queue of a unix socket that is full; it tells nobody when it is not."""


async def connect(
    address: str | Address,
    handshake: Offer | None = None,
    *,
    tls: TLS | None = None,
    limits: Limits | None = None,
) -> Connection:
    """Connect to who listens at an address.

    Args:
        address: such as ``tcp://host:port`` or ``unix:///path``; see `isthmus.net.address`.
        handshake: what this side says of itself, and its token.
        tls: how to check the server, for ``tls`` and ``wss``; None: as a browser does.
        limits: bounds in bytes and seconds.

    Raises:
        AddressError: this is no address.
        BrokenError: nobody is there, or who is there does not speak this protocol (`RemoteProtocolError`).
        VersionError: it speaks other versions.
        AuthenticationError: one side does not accept the other's token or certificate.
        WaitTimeoutError: all of this took longer than ``limits.open_seconds``.
        MissingExtraError: the address needs a package that is not installed.
    """
    where = Address.parse(address)
    limits = limits or Limits()
    offer = offered(handshake, limits)
    if tls is not None and not where.secure:
        raise AddressError(
            str(where), "TLS is for tls:// and wss:// addresses; use one, or leave it out"
        )
    secured = (tls or TLS()).secured(client=True) if where.secure else None
    try:
        async with asyncio.timeout(limits.open_seconds):
            sock = await _connected(where)
            return await open_over(sock, where, offer, limits, client=True, secured=secured)
    except TimeoutError:
        raise WaitTimeoutError(f"connection to {where}", limits.open_seconds) from None


def offered(handshake: Offer | None, limits: Limits) -> Offer:
    """Return the offer with the promise that these limits keep."""
    return replace(handshake or Offer(), beat=limits.beat_seconds)


async def open_over(
    sock: socket.socket,
    where: Address,
    offer: Offer,
    limits: Limits,
    *,
    client: bool,
    secured: Secured | None,
    name: str = "",
) -> Connection:
    """Do every handshake over a connected socket; it is closed if one fails. Raises as `connect` does."""
    name = name or str(where)
    link: Link = SocketLink(sock)
    binding = b""
    try:
        if secured is not None:
            wrapped, binding = await secure(sock, secured, name, where.host if client else None)
            link = TLSLink(wrapped)
        if where.websocket:
            from isthmus.net.websocket import upgrade

            link = await upgrade(link, where, client=client)
        agreed = await _greet(link, Handshake(offer, client=client, binding=binding))
        return Connection(link, name, agreed, limits)
    except BaseException as error:
        link.close()
        if isinstance(error, OSError) and not isinstance(error, IsthmusError | TimeoutError):
            raise translate(name, error) from error
        raise


async def _greet(link: Link, handshake: Handshake) -> Agreed:
    """Carry the handshake's bytes to and fro; what it has to say is said before its error is raised."""
    buffer = memoryview(bytearray(4096))
    await _send(link, handshake.send())
    while True:
        try:
            n = link.receive_into(buffer)
        except BlockingIOError:
            await (asyncio.sleep(0) if link.pending() else ready(link.sock))
            continue
        if not n:
            raise BrokenError(
                "the peer", "it closed the connection within the handshake; its log may say why"
            )
        try:
            events = handshake.receive(bytes(buffer[:n]))
        finally:
            if said := handshake.send():
                await _send(link, said)
        for event in events:
            if isinstance(event, Agreed):
                return event


async def _send(link: Link, data: bytes) -> None:
    view = memoryview(data)
    while view or link.waits_for_room():
        try:
            view = view[link.send([view] if view else []) :]
        except BlockingIOError:
            await ready(link.sock, write=True)


async def _connected(where: Address) -> socket.socket:
    """Return a socket connected to the first of the address's places that accepts."""
    loop = asyncio.get_running_loop()
    if where.scheme == "unix":
        places: list[tuple[int, Any]] = [(socket.AF_UNIX, where.path)]
    else:
        places = await resolved(where)
    refused: OSError | None = None
    for family, place in places:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if family == socket.AF_UNIX:
                await _connect_unix(sock, place)
            else:
                await loop.sock_connect(sock, place)
            tune(sock)
            return sock
        except OSError as error:
            sock.close()
            refused = refused or error
        except BaseException:
            sock.close()
            raise
    assert refused is not None
    raise BrokenError(
        str(where), f"cannot connect ({_reason(refused)}); see that somebody listens there"
    ) from refused


async def _connect_unix(sock: socket.socket, path: str) -> None:
    # Not the event loop's own: it takes a full queue, EAGAIN, for a connection that is on its way.
    while True:
        try:
            sock.connect(path)
            return
        except BlockingIOError:
            await asyncio.sleep(QUEUE_SECONDS)


def _reason(error: OSError) -> str:
    # asyncio puts a text of its own in the place of the system's; numbers of the resolver are negative.
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


async def resolved(where: Address, *, listening: bool = False) -> list[tuple[int, Any]]:
    """Return family and socket address of each place that a host has.

    Raises:
        BrokenError: its name is not known.
    """
    with contextlib.suppress(ValueError):
        # No thread is started for what needs no resolving.
        number = ipaddress.ip_address(where.host.partition("%")[0])
        if "%" not in where.host:
            return [
                (
                    socket.AF_INET6 if number.version == 6 else socket.AF_INET,
                    (where.host, where.port),
                )
            ]
    flags = socket.AI_PASSIVE if listening else 0
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        why = _reason(error) if isinstance(error, OSError) else "it is no name"
        raise BrokenError(str(where), f"no address for {where.host!r}: {why}") from error
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def tune(sock: socket.socket) -> None:
    """Set what a connected socket of ours has."""
    if sock.family == socket.AF_UNIX:
        # The default of 200 kB is filled before the other side has woken up.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
