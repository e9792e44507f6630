"""Where a Redis is and how to log in; what can go wrong with it, in our errors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.errors import BrokenError, FullError, IsthmusError, SpecError
from isthmus.spec import Spec, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Client", "RedisSpec", "address", "check", "connect", "refusal", "silence"]

_MANY = (
    1 << 30
)  # a thread that uses the connector has a connection; the pool is no place to limit threads


class RedisSpec(Spec):
    """Where a `RedisConnector` keeps its objects."""

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
    cluster: bool = False
    """The server is a node of a cluster."""
    sentinel: str | None = None
    """Name of the service to ask for; the address is then a sentinel's."""
    sentinel_password_env: str | None = None
    nodes: str = ""
    """More nodes of the cluster, or more sentinels: ``host:port,host:port``."""
    chunk_bytes: int = 1 << 21
    """Bytes of an object that go under one key."""
    unfinished_seconds: int = 3600
    """How long the server keeps the chunks of an object whose writer never finished it."""
    timeout: float = 30.0
    """Seconds that the server may keep silent."""


def address(spec: RedisSpec) -> str:
    """Return what errors call the server."""
    where = spec.unix_socket or f"{spec.hostname}:{spec.port}"
    role = (
        "cluster "
        if spec.cluster
        else f"service {spec.sentinel!r} of sentinel "
        if spec.sentinel
        else ""
    )
    return f"Redis {role}at {where}"


def check(spec: RedisSpec) -> None:
    """Refuse what cannot work.

    Raises:
        SpecError: says which field.
    """
    problem = ""
    if not spec.prefix or set(spec.prefix) & set("{}"):
        problem = f"prefix must be a text without braces, got {spec.prefix!r}"
    elif not 1 <= spec.chunk_bytes <= 1 << 28:
        problem = f"chunk_bytes must lie between 1 and 268435456, got {spec.chunk_bytes}"
    elif spec.unfinished_seconds < 1 or spec.timeout <= 0:
        problem = "unfinished_seconds and timeout must be positive"
    elif spec.cluster and (spec.sentinel or spec.unix_socket or spec.db):
        problem = "a cluster has no sentinels, no unix socket, and only database 0"
    elif spec.sentinel and spec.unix_socket:
        problem = "sentinels are reached over TCP, not over a unix socket"
    elif spec.unix_socket and spec.tls:
        problem = "tls is for TCP; a unix socket has the file system's permissions"
    elif (spec.ca_file or spec.cert_file or spec.key_file) and not spec.tls:
        problem = "ca_file, cert_file and key_file need tls=True"
    if problem:
        raise SpecError("RedisConnector", problem)
    list(_nodes(spec))


class Client(NamedTuple):
    """The client library's view of the servers."""

    redis: Any
    """A ``redis.Redis`` or a ``redis.RedisCluster``."""
    close: Callable[[], None]
    """Close every connection."""


def connect(spec: RedisSpec) -> Client:
    """Return a client; a cluster's is connected, any other connects when first used.

    Raises:
        MissingExtraError: redis-py is not installed.
        SpecError: the environment variable with the password is not set.
    """
    redis = require("redis", extra="redis", what="the redis connector")
    options: dict[str, Any] = {
        "username": spec.username,
        "password": _secret(spec.password_env),
        "socket_timeout": spec.timeout,
        "socket_connect_timeout": spec.timeout,
        # Its replies are read by `link`, which knows no other.
        "protocol": 2,
    }
    if spec.tls:
        options |= {
            "ssl": True,
            "ssl_ca_certs": spec.ca_file,
            "ssl_certfile": spec.cert_file,
            "ssl_keyfile": spec.key_file,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
        }
    if spec.cluster:
        from redis.cluster import ClusterNode

        nodes = [ClusterNode(host, port) for host, port in _nodes(spec)]
        cluster = redis.RedisCluster(startup_nodes=nodes, max_connections=_MANY, **options)
        return Client(cluster, cluster.close)
    # A stale connection is noticed, and replaced, when it is taken from the pool. Beyond that a failed
    # call says so at once: only the caller knows what a repetition costs.
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options |= {"db": spec.db, "retry": Retry(NoBackoff(), 0), "max_connections": _MANY}
    if spec.sentinel:
        from redis.sentinel import Sentinel

        asking = {k: v for k, v in options.items() if k.startswith(("socket", "ssl"))}
        asking["password"] = _secret(spec.sentinel_password_env)
        found = Sentinel(list(_nodes(spec)), sentinel_kwargs=asking, **options)
        master = found.master_for(spec.sentinel)

        def close() -> None:
            for one in (master, *found.sentinels):
                one.connection_pool.disconnect()

        return Client(master, close)
    where = (
        {"unix_socket_path": spec.unix_socket}
        if spec.unix_socket
        else {"host": spec.hostname, "port": spec.port}
    )
    client = redis.Redis(**where, **options)
    return Client(client, client.connection_pool.disconnect)


def _secret(variable: str | None) -> str | None:
    if variable is None:
        return None
    try:
        return os.environ[variable]
    except KeyError:
        raise SpecError(
            "RedisConnector",
            f"its password is in the environment variable {variable}, which is not set in this process",
        ) from None


def _nodes(spec: RedisSpec) -> Iterator[tuple[str, int]]:
    yield spec.hostname, spec.port
    for text in filter(None, spec.nodes.split(",")):
        host, colon, port = text.strip().rpartition(":")
        if not colon or not port.isdigit():
            raise SpecError("RedisConnector", f"{text!r} in nodes is not host:port")
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
