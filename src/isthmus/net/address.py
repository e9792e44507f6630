"""Where somebody listens, as text and taken apart.

``tcp://host:port``, ``tls://host:port``, ``unix:///path``, ``ws://host:port/path``,
``wss://host:port/path``; an IPv6 address stands in brackets. To listen, port 0 means any free one.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import msgspec

from isthmus.errors import AddressError

__all__ = ["Address"]

SCHEMES = ("tcp", "tls", "unix", "ws", "wss")
MAX_PATH_BYTES = 107
"""Of a unix socket: its address has 108 with the zero behind it."""

_PORTS = {"ws": 80, "wss": 443}


class Address(msgspec.Struct, frozen=True):
    """An address taken apart; ``str()`` puts it together again."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str | Address) -> Address:
        """Take an address apart.

        Raises:
            AddressError: it is none; says what is wrong and what one looks like.
        """
        if isinstance(text, Address):
            return text
        scheme, colon, rest = text.partition("://")
        if not colon or scheme not in SCHEMES:
            raise AddressError(
                text, f"an address starts with one of {', '.join(f'{s}://' for s in SCHEMES)}"
            )
        if scheme == "unix":
            return cls(scheme, path=_socket_path(text, rest))
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise AddressError(text, str(error)) from None
        if not host or parts.username is not None or parts.fragment:
            raise AddressError(
                text, f"{scheme} needs host and port, such as {scheme}://example:7000"
            )
        if port is None:
            port = _PORTS.get(scheme)
            if port is None:
                raise AddressError(text, f"{scheme} needs a port, such as {scheme}://{host}:7000")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if scheme not in _PORTS and path not in ("", "/"):
            raise AddressError(text, f"{scheme} has no path")
        return cls(scheme, host, port, (path or "/") if scheme in _PORTS else "")

    @property
    def secure(self) -> bool:
        """Whether TLS lies beneath."""
        return self.scheme in ("tls", "wss")

    @property
    def websocket(self) -> bool:
        """Whether it is reached over WebSocket."""
        return self.scheme in _PORTS

    def __str__(self) -> str:
        if self.scheme == "unix":
            return f"unix://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def _socket_path(text: str, path: str) -> str:
    if not path.startswith("/"):
        raise AddressError(
            text, "a unix socket needs an absolute path, such as unix:///run/user/7/x"
        )
    if len(os.fsencode(path)) > MAX_PATH_BYTES or "\0" in path:
        raise AddressError(text, f"the path of a unix socket has at most {MAX_PATH_BYTES} bytes")
    return path
