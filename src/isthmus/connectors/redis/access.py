"""A client of a Redis, a cluster of them, or one behind sentinels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.access import redis as access
from isthmus.access.redis import RedisAddress, refusal, silence
from isthmus.errors import SpecError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Client", "RedisSpec", "address", "check", "connect", "refusal", "silence"]

_WHAT = "RedisConnector"
_MANY = (
    1 << 30
)  # a thread that uses the connector has a connection; the pool is no place to limit threads


class RedisSpec(RedisAddress):
    """Where a `RedisConnector` keeps its objects."""

    cluster: bool = False
    """The server is a node of a cluster."""
    chunk_bytes: int = 1 << 21
    """Bytes of an object that go under one key."""
    unfinished_seconds: int = 3600
    """How long the server keeps the chunks of an object whose writer never finished it."""


def address(spec: RedisSpec) -> str:
    """Return what errors call the server."""
    where = access.address(spec)
    return where.replace("Redis", "Redis cluster", 1) if spec.cluster else where


def check(spec: RedisSpec) -> None:
    """Refuse what cannot work.

    Raises:
        SpecError: says which field.
    """
    problem = ""
    if not 1 <= spec.chunk_bytes <= 1 << 28:
        problem = f"chunk_bytes must lie between 1 and 268435456, got {spec.chunk_bytes}"
    elif spec.unfinished_seconds < 1:
        problem = "unfinished_seconds must be positive"
    elif spec.cluster and (spec.sentinel or spec.unix_socket or spec.db):
        problem = "a cluster has no sentinels, no unix socket, and only database 0"
    if problem:
        raise SpecError(_WHAT, problem)
    access.check(spec, _WHAT)


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
    options = access.options(spec, _WHAT)
    if spec.cluster:
        from redis.cluster import ClusterNode

        nodes = [ClusterNode(host, port) for host, port in access.nodes(spec, _WHAT)]
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
        asking["password"] = access.secret(spec.sentinel_password_env, _WHAT)
        found = Sentinel(list(access.nodes(spec, _WHAT)), sentinel_kwargs=asking, **options)
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
