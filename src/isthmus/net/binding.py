"""Sockets that listen: at each place of a host, or at a path, where a dead one may lie."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

import msgspec

from isthmus.errors import AddressError, BrokenError, IsthmusError
from isthmus.net.opening import resolved

if TYPE_CHECKING:
    from isthmus.net.address import Address

__all__ = ["Path", "bound"]

BACKLOG = 512


async def bound(where: Address) -> tuple[Address, list[socket.socket]]:
    """Return the address with its port, and a socket that listens there for each place the host has."""
    sockets: list[socket.socket] = []
    try:
        for family, place in await resolved(where, listening=True):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((place[0], where.port, *place[2:]))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL and len(sockets) > 1:
                    sockets.pop().close()  # a name with an IPv6 address that this machine has not
                    continue
                raise
            sock.listen(BACKLOG)
            where = msgspec.structs.replace(where, port=sock.getsockname()[1])
    except OSError as error:
        for sock in sockets:
            sock.close()
        if isinstance(error, BrokenError):
            raise
        raise AddressError(str(where), _why_not(error, where)) from error
    return where, sockets


def _why_not(error: OSError, where: Address) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {where.port} is in use by another program; end that (ss -ltnp tells which it is), "
            "choose another port, or 0 for any free one"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where.host} is no address of this machine; use one that is, or 0.0.0.0 for all"
    if error.errno == errno.EACCES:
        return f"port {where.port} is kept for the administrator; choose one from 1024 on"
    return f"cannot listen there: {error.strerror or error}"


class Path:
    """The path of a unix socket, held by a lock beside it: who holds that may replace what lies there.

    The kernel drops the lock of a killed process; its socket stays, and nobody could tell it from a live
    one without a race.
    """

    def __init__(self, where: Address) -> None:
        self._path = where.path
        self._lock_path = f"{where.path}.lock"
        self._descriptor = -1
        try:
            self._descriptor = self._locked(where)
        except OSError as error:
            raise AddressError(str(where), f"cannot listen there: {error.strerror}") from error

    def _locked(self, where: Address) -> int:
        while True:
            fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever let it go may have deleted it between our two calls.
                if os.path.samestat(os.fstat(fd), os.stat(self._lock_path)):
                    return fd
                os.close(fd)
            except FileNotFoundError:
                os.close(fd)
            except BlockingIOError:
                os.close(fd)
                raise AddressError(
                    str(where), "another process listens there; end that, or choose another path"
                ) from None

    def bind(self, mode: int) -> socket.socket:
        """Return a socket that listens at the path, in place of a dead one.

        Raises:
            AddressError: something else lies there, or the folder cannot be written.
        """
        where = f"unix://{self._path}"
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._clear(where)
            sock.setblocking(False)
            os.fchmod(sock.fileno(), mode)  # Linux makes the file with it: nobody can be quicker
            sock.bind(self._path)
            os.chmod(self._path, mode)
            sock.listen(BACKLOG)
        except BaseException as error:
            sock.close()
            self._unlock()
            if isinstance(error, OSError) and not isinstance(error, IsthmusError):
                raise AddressError(where, f"cannot listen there: {error.strerror}") from error
            raise
        return sock

    def _clear(self, where: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(os.lstat(self._path).st_mode):
                raise AddressError(
                    where, "a file that is no socket lies there; choose another path"
                )
            with socket.socket(socket.AF_UNIX) as probe:
                probe.setblocking(False)
                try:
                    probe.connect(self._path)
                except ConnectionRefusedError:
                    os.unlink(self._path)
                    return
                except BlockingIOError:
                    pass  # somebody listens, and is busy
                raise AddressError(where, "another program listens there; choose another path")

    def give_up(self) -> None:
        """Delete the socket, and let the path go."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)
        self._unlock()

    def _unlock(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._lock_path)
        self.forked()

    def forked(self) -> None:
        """Let go of the lock in a child; it stays the parent's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
