"""Where a Redis is and how to log in; what can go wrong with it, in our errors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from isthmus.errors import BrokenError, FullError, IsthmusError, SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RedisAddress", "address", "check", "nodes", "options", "refusal", "secret", "silence"]


class RedisAddress(Spec):
    """The fields that every plugin over Redis has."""

    hostname: str = "localhost"
    """Name or address that every process knows the server by."""
    port: int = 6379
    db: int = 0
    """Number of the database."""
    prefix: str = "isthmus"
    """What the names of all keys begin with."""
    username: str | None = None
    password_env: str | None = None
    """Environment variable that has the password, in every process that connects."""
    unix_socket: str | None = None
    """Path of the server's socket, in place of host and port."""
    tls: bool = False
    ca_file: str | None = None
    """Certificates to trust in place of the system's."""
    cert_file: str | None = None
    """This client's certificate, where the server asks for one."""
    key_file: str | None = None
    sentinel: str | None = None
    """Name of the service to ask for; the address is then a sentinel's."""
    sentinel_password_env: str | None = None
    nodes: str = ""
    """More sentinels, or nodes of a cluster: ``host:port,host:port``."""
    timeout: float = 30.0
    """Seconds that the server may keep silent."""


def address(spec: RedisAddress) -> str:
    """Return what errors call the server."""
    where = spec.unix_socket or f"{spec.hostname}:{spec.port}"
    return (
        f"Redis service {spec.sentinel!r} of sentinel at {where}"
        if spec.sentinel
        else f"Redis at {where}"
    )


def check(spec: RedisAddress, what: str) -> None:
    """Refuse what cannot work.

    Args:
        spec: of the plugin.
        what: the plugin's name, for the error.

    Raises:
        SpecError: says which field.
    """
    problem = ""
    if not spec.prefix or set(spec.prefix) & set("{}"):
        problem = f"prefix must be a text without braces, got {spec.prefix!r}"
    elif spec.timeout <= 0:
        problem = "timeout must be positive"
    elif spec.sentinel and spec.unix_socket:
        problem = "sentinels are reached over TCP, not over a unix socket"
    elif spec.unix_socket and spec.tls:
        problem = "tls is for TCP; a unix socket has the file system's permissions"
    elif (spec.ca_file or spec.cert_file or spec.key_file) and not spec.tls:
        problem = "ca_file, cert_file and key_file need tls=True"
    if problem:
        raise SpecError(what, problem)
    list(nodes(spec, what))


def options(spec: RedisAddress, what: str) -> dict[str, Any]:
    """Return what the client library's connections are made with, whatever kind of client it is.

    Raises:
        SpecError: the environment variable with the password is not set.
    """
    made: dict[str, Any] = {
        "username": spec.username,
        "password": secret(spec.password_env, what),
        "socket_timeout": spec.timeout,
        "socket_connect_timeout": spec.timeout,
        # Replies are read by ourselves, who know no other.
        "protocol": 2,
    }
    if spec.tls:
        made |= {
            "ssl": True,
            "ssl_ca_certs": spec.ca_file,
            "ssl_certfile": spec.cert_file,
            "ssl_keyfile": spec.key_file,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
        }
    return made


def secret(variable: str | None, what: str) -> str | None:
    """Return what an environment variable has; None where none is named."""
    if variable is None:
        return None
    try:
        return os.environ[variable]
    except KeyError:
        raise SpecError(
            what,
            f"its password is in the environment variable {variable}, which is not set in this process",
        ) from None


def nodes(spec: RedisAddress, what: str) -> Iterator[tuple[str, int]]:
    """Yield host and port of every server that the spec names."""
    yield spec.hostname, spec.port
    for text in filter(None, spec.nodes.split(",")):
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isdigit():
            raise SpecError(what, f"{text!r} in nodes is not host:port")
        yield host.strip("[]"), int(port)


def silence(where: str, error: Exception) -> IsthmusError:
    """Return our error for a connection that could not be made, or broke."""
    text = str(error).rstrip(".")
    if any(word in text for word in _HINTS):
        return refusal(where, text, 0)
    return BrokenError(
        where, f"{text or type(error).__name__}; see that the server runs there, then call again"
    )


_HINTS = {
    "OOM": "raise its maxmemory, or evict objects",
    "WRONGTYPE": "another program's key is in the way; choose another prefix",
    "WRONGPASS": "set username, and password_env to the name of the variable with the password",
    "NOAUTH": "set password_env to the name of the environment variable with the password",
    "invalid username-password": "set password_env to the name of the variable with the password",
    "invalid password": "set password_env to the name of the variable with the password",
    "Authentication required": "set password_env to the name of the variable with the password",
    "unauthenticated": "set password_env to the name of the variable with the password",
    "NOPERM": "give the user these commands, on keys and channels that begin with the prefix",
    "DB index": "choose a db that the server has (its `databases` setting)",
    "LOADING": "it has just started; call again in a moment",
    "READONLY": "it is a replica; give the address of the primary, or use sentinel=",
    "MISCONF": "it cannot write to its disk",
    "MOVED": "it is a node of a cluster; say cluster=True",
    "ASK": "the slot is being moved to another node; call again in a moment",
    "TRYAGAIN": "the slot is being moved to another node; call again in a moment",
    "CLUSTERDOWN": "not all slots are served",
}


def refusal(where: str, text: str, need: int) -> IsthmusError:
    """Return our error for what the server answered.

    Args:
        where: `address` of the server.
        text: its error reply.
        need: bytes that were to be stored.
    """
    if text.startswith("OOM") or "maxmemory" in text:
        return FullError(where, need, _HINTS["OOM"])
    hint = next((h for word, h in _HINTS.items() if word in text), "")
    return BrokenError(where, f"{text}; {hint}" if hint else text)
