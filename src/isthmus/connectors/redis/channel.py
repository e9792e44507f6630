"""Requests to whichever server has an object: connections borrowed from the client library's pools."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.connectors.redis.access import Client, address, check, connect, refusal, silence
from isthmus.connectors.redis.link import Link, RefusedError, raise_first
from isthmus.errors import ClosedError, IsthmusError
from isthmus.forking import renew_after_fork
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from isthmus.connectors.redis.access import RedisSpec
    from isthmus.connectors.redis.link import Command

__all__ = ["Channel"]

T = TypeVar("T")

_AHEAD = (
    64  # requests before the first reply is read: small ones, so their replies fit in any buffer
)
_SCANNED = 1000


class Channel:
    """The servers of one specification; connects when first used, and again after a fork.

    Keys, here, are those of the database.
    """

    def __init__(self, spec: RedisSpec) -> None:
        check(spec)
        redis = require("redis", extra="redis", what="the redis connector")
        # The second is what a cluster's client raises; it is none of the first.
        self._failures = (redis.RedisError, redis.exceptions.RedisClusterException)
        self._spec = spec
        self.where = address(spec)
        self._client: Client | None = None
        self._closed = False
        self._forked()
        renew_after_fork(self)

    def ask(self, key: bytes, request: Command) -> Any:
        """Return the reply to one request."""
        return self.at(key, lambda link: raise_first(link.run([request], window=1))[0])

    def ask_each(self, keys: Sequence[bytes], requests: Sequence[Command]) -> list[Any]:
        """Return the replies to several requests, each about the key at its place."""
        replies: list[Any] = [None] * len(keys)
        for group in self.groups(keys, range(len(keys))):

            def ask(link: Link, group: list[int] = group) -> list[Any]:
                return raise_first(link.run((requests[n] for n in group), window=_AHEAD))

            for n, reply in zip(group, self.at(keys[group[0]], ask), strict=True):
                replies[n] = reply
        return replies

    def groups(self, keys: Sequence[bytes], which: Iterable[int]) -> list[list[int]]:
        """Group the numbers of keys by the server that has them."""
        if not self._spec.cluster:
            return [whole] if (whole := list(which)) else []
        found: dict[Any, list[int]] = {}
        with self.ours():
            for n in which:
                found.setdefault(self._pool(keys[n]), []).append(n)
        return list(found.values())

    def at(self, key: bytes, work: Callable[[Link], T], *, need: int = 0) -> T:
        """Have something done over a connection to the server that has a key.

        Args:
            key: of the database.
            work: gets the connection; reads every reply to what it sends, whatever happens.
            need: bytes to be stored, for the error of a server that is full.

        Raises:
            BrokenError: the server did not answer, or refused.
            FullError: it has no room.
        """
        attempts = 3 if self._spec.cluster else 1
        while True:
            attempts -= 1
            try:
                with self._link(key) as link:
                    return work(link)
            except RefusedError as refused:
                if not attempts or not str(refused).startswith("MOVED"):
                    raise refusal(self.where, str(refused), need) from None
                self._stale = True

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Yield keys that match a pattern, some at a time; one may come twice."""
        with self.ours():
            batch: list[bytes] = []
            for key in self._open().redis.scan_iter(match=pattern, count=_SCANNED):
                batch.append(key)
                if len(batch) == _SCANNED:
                    yield batch
                    batch = []
            if batch:
                yield batch

    @contextlib.contextmanager
    def doorbell(self, name: bytes) -> Iterator[Callable[[float], None]]:
        """Subscribe to a channel; what comes back waits for a message, at most so many seconds.

        The first message says that the subscription stands.
        """
        with self.ours(), contextlib.closing(self._open().redis.pubsub()) as bell:
            bell.subscribe(name)
            yield lambda seconds: bell.get_message(timeout=seconds)

    @contextlib.contextmanager
    def doorbells(self, pattern: bytes) -> Iterator[Callable[[float], list[bytes]]]:
        """Subscribe to all channels that match; what comes back returns those that rang.

        It waits at most so many seconds for the first.
        """
        with self.ours(), contextlib.closing(self._open().redis.pubsub()) as bells:
            bells.psubscribe(pattern)
            while bells.get_message(timeout=1.0) is None:
                pass  # until the subscription stands

            def listen(seconds: float) -> list[bytes]:
                rang = []
                message = bells.get_message(timeout=seconds)
                while message is not None:
                    if message["type"] == "pmessage":
                        rang.append(message["channel"])
                    message = bells.get_message(timeout=0)
                return rang

            yield listen

    @contextlib.contextmanager
    def ours(self) -> Iterator[None]:
        """Turn the client library's errors, and the system's, into ours."""
        try:
            yield
        except (IsthmusError, RefusedError):
            raise
        except (*self._failures, OSError) as error:
            raise silence(self.where, error) from error

    def close(self) -> None:
        """Close every connection."""
        with self._opening:
            self._closed = True
            opened, self._client = self._client, None
        if opened is not None:
            opened.close()

    @contextlib.contextmanager
    def _link(self, key: bytes) -> Iterator[Link]:
        with self.ours():
            pool = self._pool(key)
            connection = pool.get_connection()
            try:
                yield Link(connection)
            except (RefusedError, IsthmusError):
                raise  # all replies were read
            except BaseException:
                connection.disconnect()
                self._stale = True
                raise
            finally:
                pool.release(connection)

    def _pool(self, key: bytes) -> Any:
        redis = self._open().redis
        if not self._spec.cluster:
            return redis.connection_pool
        if self._stale:
            redis.nodes_manager.initialize()  # asks the nodes who has which slot now
            self._stale = False
        return redis.get_redis_connection(redis.get_node_from_key(key)).connection_pool

    def _open(self) -> Client:
        with self._opening:
            if self._closed:
                raise ClosedError(self.where)
            if self._client is None:
                self._client = connect(self._spec)
            return self._client

    def _forked(self) -> None:
        # The parent's connections are closed here when they are collected, without a word to the server.
        self._client = None
        self._opening = threading.Lock()
        self._stale = False
