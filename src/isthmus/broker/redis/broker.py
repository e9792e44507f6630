"""The broker, and its logs as streams."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from isthmus.access.redis import RedisAddress, refusal
from isthmus.broker.handle import ACK_WAIT, BrokerHandle, as_bytes, check_group, check_read
from isthmus.broker.protocol import LogInfo, Record
from isthmus.broker.redis import scripts
from isthmus.broker.redis.channel import Channel, Reply
from isthmus.broker.redis.group import LOOK_AGAIN, RedisGroup
from isthmus.errors import FullError, MissingLogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.broker.bell import Bell
    from isthmus.broker.redis.scripts import Script

__all__ = ["RedisBroker", "RedisBrokerSpec", "RedisLog"]


class RedisBrokerSpec(RedisAddress):
    """Where a `RedisBroker` keeps its logs."""

    prefix: str = "isthmus-logs"
    """What the names of all keys begin with; another than a connector's, whose `clear` deletes them."""
    durable: bool = False
    """Refuse a server that could lose what it has acknowledged, by its settings."""


class RedisBroker(BrokerHandle):
    """Keeps logs as streams on a server, for every host that reaches it.

    All items of one append, and the check of the bounds, are one script. What is asked at the same time
    shares one round trip, and so one flush of the server's append-only file. A log is on one node, so there
    is no cluster; sentinels lead to the primary.
    """

    kind = "redis"
    spec_type = RedisBrokerSpec
    durability: ClassVar[str] = (
        "the server's: with appendonly yes and appendfsync always (durable=True insists) every append"
        " survives kills and power cuts; otherwise the last seconds, or all, may be lost"
    )

    def __init__(
        self,
        hostname: str = "localhost",
        port: int = 6379,
        db: int = 0,
        prefix: str = "isthmus-logs",
        *,
        username: str | None = None,
        password_env: str | None = None,
        unix_socket: str | None = None,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        sentinel: str | None = None,
        sentinel_password_env: str | None = None,
        nodes: str = "",
        timeout: float = 30.0,
        durable: bool = False,
    ) -> None:
        spec = RedisBrokerSpec(
            hostname=hostname,
            port=port,
            db=db,
            prefix=prefix,
            username=username,
            password_env=password_env,
            unix_socket=unix_socket,
            tls=tls,
            ca_file=ca_file,
            cert_file=cert_file,
            key_file=key_file,
            sentinel=sentinel,
            sentinel_password_env=sentinel_password_env,
            nodes=nodes,
            timeout=timeout,
            durable=durable,
        )
        super().__init__(spec)
        self.channel = Channel(spec, type(self).__name__)
        self._prefix = prefix.encode()

    async def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""
        self._check()
        reply = await self.channel.ask(b"SMEMBERS", self._prefix + b":logs")
        return sorted(name.decode() for name in self.value(reply, "", 0))

    async def _open_log(
        self, name: str, max_records: int | None, max_bytes: int | None
    ) -> RedisLog:
        log = RedisLog(self, name, self._prefix, os.urandom(8).hex().encode())
        # Whose id it has from now on: the one just drawn, or that of the log that was there.
        log.id = await log.run(scripts.OPEN, name.encode(), max_records or b"", max_bytes or b"")
        return log

    async def _release(self) -> None:
        await self.channel.close()

    def check(self) -> None:
        """Refuse a closed handle."""
        self._check()

    def value(self, reply: Reply, what: str, need: int) -> Any:
        """Return what the server answered.

        Args:
            reply: its answer.
            what: it was asked about, for the error.
            need: bytes that were to be stored.
        """
        if not reply.refusal:
            return reply.value
        if "NOLOG" in reply.refusal or "NOGROUP" in reply.refusal:
            raise MissingLogError(repr(self), what)
        raise refusal(self.channel.where, reply.refusal, need)


class RedisLog:
    """A log by the id it got when it was made: one of the same name, made later, is another."""

    def __init__(self, broker: RedisBroker, name: str, prefix: bytes, id: bytes) -> None:
        self.name = name
        self.broker = broker
        self.id = id
        own = name.encode()
        self._bell = prefix + b":bell:" + own
        self._keys = (prefix + b":stream:" + own, prefix + b":log:" + own, prefix + b":logs")

    async def run(
        self, script: Script, *arguments: bytes | int, what: str = "", need: int = 0
    ) -> Any:
        """Run a script about this log, or about `what` of it, and return its answer."""
        self.broker.check()
        reply = await self.broker.channel.run(script, self._keys, (self.id, self._bell, *arguments))
        return self.broker.value(reply, f"{what}log {self.name!r}", need)

    def bell(self) -> Bell:
        """Return what rings for this log."""
        self.broker.check()
        return self.broker.channel.listen(self._bell)

    async def append(self, items: Sequence[bytes]) -> list[int]:
        data = as_bytes(items)
        if not data:
            await self.stat()
            return []
        need = sum(map(len, data))
        last = await self.run(scripts.APPEND, *data, need=need)
        if isinstance(last, list):
            records, max_records, size, max_bytes = last
            bounds = ", ".join(
                f"{held} of at most {bound.decode()} {unit}"
                for held, bound, unit in (
                    (records, max_records, "records"),
                    (size, max_bytes, "bytes"),
                )
                if bound is not None
            )
            raise FullError(
                f"log {self.name!r} on {self.broker.channel.where}",
                need,
                f"it keeps {bounds}: trim it, or wait until others have",
            )
        return list(range(last - len(data) + 1, last + 1))

    async def read(
        self, after: int = 0, *, limit: int = 256, max_bytes: int = 1 << 20
    ) -> list[Record]:
        check_read(limit)
        flat = await self.run(scripts.READ, after, limit, max_bytes)
        return [Record(int(p), d) for p, d in zip(flat[::2], flat[1::2], strict=True)]

    async def wait(self, after: int, timeout: float | None = None) -> bool:
        async def look() -> tuple[bool, float]:
            self.bell()  # again, where the connection that hears it broke
            last, records = await self.run(scripts.LOOK)
            return bool(records) and int(last) > after, LOOK_AGAIN

        return await self.bell().until(look, timeout)

    async def trim(self, through: int) -> int:
        count: int = await self.run(scripts.TRIM, through)
        return count

    async def stat(self) -> LogInfo:
        records, size, first, last, *bounds = await self.run(scripts.STAT)
        return LogInfo(
            records, size, int(first), int(last), *(None if b is None else int(b) for b in bounds)
        )

    async def group(
        self, name: str, *, start: int = 0, ack_wait: float | None = None
    ) -> RedisGroup:
        check_group(name, ack_wait)
        wait = b"" if ack_wait is None else max(1, round(ack_wait * 1000))
        await self.run(scripts.GROUP, name.encode(), start, round(ACK_WAIT * 1000), wait)
        return RedisGroup(self, name)

    async def delete(self) -> None:
        await self.run(scripts.DELETE, self.name.encode())
