"""Does a Redis, NATS or RabbitMQ answer? Asked in each one's own words, on a plain socket."""

from __future__ import annotations

import json
import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from isthmus.errors import SpecError

__all__ = ["SERVERS", "Answer", "Server", "ask_all"]


class Server(NamedTuple):
    """A kind of server that isthmus can use."""

    name: str
    variable: str
    """Environment variable that says ``host:port`` where it is not the default."""
    port: int
    greeting: bytes
    """What to send first; empty where the server speaks first."""
    install: str

    def address(self) -> tuple[str, int]:
        """Return where to look for it.

        Raises:
            SpecError: the variable does not hold ``host:port``.
        """
        text = os.environ.get(self.variable, "")
        if not text:
            return "127.0.0.1", self.port
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise SpecError(
                self.variable, f"{text!r} is not host:port, such as 127.0.0.1:{self.port}"
            )
        return host.strip("[]"), int(port)


SERVERS = (
    Server("Redis", "ISTHMUS_REDIS", 6379, b"INFO server\r\n", "redis-server"),
    Server("NATS", "ISTHMUS_NATS", 4222, b"", "nats-server"),
    Server("RabbitMQ", "ISTHMUS_RABBITMQ", 5672, b"AMQP\x00\x00\x09\x01", "rabbitmq-server"),
)


class Answer(NamedTuple):
    """What came back from an address."""

    server: Server
    address: str
    version: str | None
    """None if nobody listens; empty if it answers but keeps its version to itself."""
    trouble: str
    """Why an open port is not the server that was looked for; else empty."""


def ask_all(timeout: float = 0.3) -> list[Answer]:
    """Ask every kind of server, at the same time.

    Args:
        timeout: seconds for connecting, and again for the answer.
    """
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        return list(pool.map(lambda server: _ask(server, timeout), SERVERS))


def _ask(server: Server, timeout: float) -> Answer:
    host, port = server.address()
    where = f"{host}:{port}"
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.settimeout(timeout)
            if server.greeting:
                connection.sendall(server.greeting)
            reply = connection.recv(4096)
    except ConnectionRefusedError:
        return Answer(server, where, None, "")
    except OSError as error:  # a timeout too: listening, but silent
        return Answer(server, where, None, str(error))
    version = _READ[server.name](reply)
    trouble = "" if version is not None else "something else listens there"
    return Answer(server, where, version, trouble)


def _redis(reply: bytes) -> str | None:
    if reply.startswith((b"-NOAUTH", b"-NOPERM")):
        return ""
    found = re.search(rb"redis_version:(\S+)", reply)
    return found[1].decode() if found else None


def _nats(reply: bytes) -> str | None:
    if not reply.startswith(b"INFO "):
        return None
    try:
        facts = json.loads(reply[5:].partition(b"\r\n")[0])
    except ValueError:
        return ""
    return f"{facts.get('version', '')}{' with JetStream' if facts.get('jetstream') else ''}"


def _rabbitmq(reply: bytes) -> str | None:
    # A method frame (type 1) with Connection.Start (class 10, method 10) and a table of properties.
    if reply[:1] != b"\x01" or reply[7:11] != b"\x00\x0a\x00\x0a":
        return None
    at = reply.find(b"\x07versionS")
    size = int.from_bytes(reply[at + 9 : at + 13], "big") if at >= 0 else 0
    return reply[at + 13 : at + 13 + size].decode(errors="replace")


_READ = {"Redis": _redis, "NATS": _nats, "RabbitMQ": _rabbitmq}
