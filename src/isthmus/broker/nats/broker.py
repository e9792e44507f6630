"""The broker, and its logs as streams of JetStream's."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from isthmus.broker.handle import ACK_WAIT, BrokerHandle, as_bytes, check_group, check_read
from isthmus.broker.nats.cursor import SLICE, Cursors
from isthmus.broker.nats.group import NatsGroup
from isthmus.broker.nats.link import PAUSE, Link, LostError, RefusedError, settled, where
from isthmus.broker.protocol import LogInfo, Record
from isthmus.errors import BrokenError, ClosedError, FullError, MissingLogError, SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

__all__ = ["NatsBroker", "NatsBrokerSpec", "NatsLog"]

# JetStream's numbers of errors.
_NO_STREAM, _NAME_IN_USE, _STORE_FAILED, _NO_CONSUMER = 10059, 10058, 10077, 10014
_NO_MESSAGE = (10037, 10043, 10057)
_HEADERS = 64  # bytes that ours have; they count as the message's

_AT_ONCE = 256  # messages of one append that are under way


class NatsBrokerSpec(Spec):
    """Where a `NatsBroker` keeps its logs."""

    servers: str = "nats://localhost:4222"
    """Addresses, with commas between them: any server of the cluster will do."""
    prefix: str = "isthmus"
    """What the names of all streams and subjects begin with."""
    replicas: int = 1
    """On how many servers a new log is kept."""
    username: str | None = None
    password_env: str | None = None
    """Environment variable that has the password, in every process that connects."""
    token_env: str | None = None
    """Environment variable that has the token."""
    credentials: str | None = None
    """Path of a credentials file, on every host that connects."""
    tls: bool = False
    ca_file: str | None = None
    """Certificates to trust in place of the system's."""
    cert_file: str | None = None
    """This client's certificate, where the server asks for one."""
    key_file: str | None = None
    timeout: float = 5.0
    """Seconds that the server may keep silent, and that an append repeats itself while it is away."""


class NatsBroker(BrokerHandle):
    """Keeps logs as streams of JetStream, for every host that reaches the server.

    An append of several records is as many messages: JetStream before 2.12 stores no two together. They
    are stored in order; if one is refused, the others are deleted again, but a reader may have seen them,
    and a process that is killed in between leaves some. An append whose connection breaks repeats itself
    for `timeout` seconds; the server drops what it has already (for two minutes). A record is at most as
    large as the server's `max_payload`, 1 MB if nobody changed it.

    JetStream keeps deadlines and positions itself. A handle of a deleted log uses a later one of its name.
    """

    kind = "nats"
    spec_type = NatsBrokerSpec
    atomic = False
    durability: ClassVar[str] = (
        "in the server's file when append returns: survives a kill of the server, but a power cut takes"
        " what is younger than its sync_interval, two minutes unless it is told otherwise; acknowledgements"
        " are written a moment later, so a kill has their records delivered again"
    )

    def __init__(
        self,
        servers: str = "nats://localhost:4222",
        prefix: str = "isthmus",
        *,
        replicas: int = 1,
        username: str | None = None,
        password_env: str | None = None,
        token_env: str | None = None,
        credentials: str | None = None,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        spec = NatsBrokerSpec(
            servers,
            prefix,
            replicas,
            username,
            password_env,
            token_env,
            credentials,
            tls,
            ca_file,
            cert_file,
            key_file,
            timeout,
        )
        _check_spec(spec)
        super().__init__(spec)
        self.prefix = prefix
        self.where = where(spec)
        self.timeout = timeout
        self._nats = spec
        self._link: Link | None = None
        self._connecting = asyncio.Lock()

    async def link(self) -> Link:
        """Return the connection; made anew if it broke."""
        self._check()
        link = self._link
        if link is None or link.broken is not None:
            async with self._connecting:
                self._check()
                link = self._link
                if link is None or link.broken is not None:
                    link = self._link = await Link.connect(self._nats)
            if self._closed:
                await self._release()
                self._check()
        return link

    async def call(self, what: str, body: Any = None) -> dict[str, Any]:
        """Return the answer of JetStream's management.

        Raises:
            RefusedError: it is an error.
        """
        return await self.steadily(lambda link: link.call(what, body))

    async def steadily(self, work: Callable[[Link], Awaitable[T]]) -> T:
        """Do what may be done twice; once more, if the connection turns out to be broken."""
        try:
            return await work(await self.link())
        except LostError:
            return await work(await self.link())

    async def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""
        names: list[str] = []
        while True:
            body = {"offset": len(names), "subject": f"{self.prefix}.*"}
            answer = await self.call("STREAM.NAMES", body)
            some = answer.get("streams") or []
            names += some
            if not some or len(names) >= answer["total"]:
                break
        start = f"{self.prefix}-"
        return sorted(n.removeprefix(start).replace("=", ".") for n in names if n.startswith(start))

    async def _open_log(self, name: str, max_records: int | None, max_bytes: int | None) -> NatsLog:
        log = NatsLog(self, name)
        bounds = {"max_msgs": max_records, "max_bytes": max_bytes}
        wanted = {k: v for k, v in bounds.items() if v is not None}
        try:
            config = (await self.call(f"STREAM.INFO.{log.stream}"))["config"]
        except RefusedError as error:
            self.refused(error, f"log {name!r}", known=(_NO_STREAM,))
            config = {
                "name": log.stream,
                "subjects": [log.subject],
                "retention": "limits",
                "discard": "new",
                "storage": "file",
                "num_replicas": self._nats.replicas,
                "max_consumers": -1,
                "max_msgs": -1,
                "max_bytes": -1,
                "duplicate_window": 120 * 10**9,
                **wanted,
            }
            try:
                await self.call(f"STREAM.CREATE.{log.stream}", config)
                return log
            except RefusedError as error:
                self.refused(error, f"log {name!r}", known=(_NAME_IN_USE,))  # somebody was faster
                config = (await self.call(f"STREAM.INFO.{log.stream}"))["config"]
        if config.get("subjects") != [log.subject]:
            # A prefix may have dashes, too: log b-c of prefix a, and log c of prefix a-b.
            raise BrokenError(
                self.where,
                f"its stream {log.stream} is not log {name!r} of prefix {self.prefix!r}, but of the "
                f"subjects {config.get('subjects')}; choose another name or prefix",
            )
        if any(config[k] != v for k, v in wanted.items()):
            await self.call(f"STREAM.UPDATE.{log.stream}", config | wanted)
        return log

    async def _release(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close(ClosedError(repr(self)))

    def refused(
        self, error: RefusedError, what: str, *, need: int = 0, known: Sequence[int] = ()
    ) -> None:
        """Raise our error for one of JetStream's, unless it is `known`.

        Args:
            error: what it answered.
            what: it was asked about.
            need: bytes that were to be stored.
            known: numbers that the caller knows what to do about.
        """
        number, text = error.args
        if number in known:
            return
        if number in (_NO_STREAM, _NO_CONSUMER) or "eleted" in text:
            raise MissingLogError(repr(self), what) from None
        if "exceeded" in text or "insufficient" in text:
            raise FullError(
                f"{what} on {self.where}", need, f"{text}: trim it, or wait until others have"
            ) from None
        raise BrokenError(self.where, f"{what}: {text} ({number})") from None


def _check_spec(spec: NatsBrokerSpec) -> None:
    problem = ""
    if not spec.servers.strip():
        problem = "servers must name one"
    elif not spec.prefix or set(spec.prefix) & set(" .*>/\\\t\r\n"):
        problem = f"prefix must be a text without spaces and any of . * > / \\, got {spec.prefix!r}"
    elif spec.timeout <= 0 or spec.replicas < 1:
        problem = "timeout and replicas must be positive"
    elif (spec.username is None) != (spec.password_env is None):
        problem = "username and password_env go together"
    elif (spec.ca_file or spec.cert_file or spec.key_file) and not spec.tls:
        problem = "ca_file, cert_file and key_file need tls=True"
    if problem:
        raise SpecError("NatsBroker", problem)


class NatsLog:
    """A log by its name: a stream with one subject."""

    def __init__(self, broker: NatsBroker, name: str) -> None:
        self.name = name
        self.broker = broker
        token = name.replace(".", "=")  # dots part subjects, and no name has an equals sign
        self.stream = f"{broker.prefix}-{token}"
        self.subject = f"{broker.prefix}.{token}"
        self._cursors = Cursors(self)

    async def call(self, what: str, body: Any = None, *, known: Sequence[int] = ()) -> Any:
        """Return JetStream's answer about this log; None for an error that is `known`."""
        try:
            return await self.broker.call(what, body)
        except RefusedError as error:
            self.broker.refused(error, f"log {self.name!r}", known=known)
            return None

    async def append(self, items: Sequence[bytes]) -> list[int]:
        data = as_bytes(items)
        link = await self.broker.link()
        for item in data:
            if len(item) + _HEADERS > link.max_payload:
                raise FullError(
                    f"one message of {self.broker.where}",
                    len(item),
                    f"its max_payload is {link.max_payload} bytes: raise that in its configuration, or"
                    " append a reference to what is stored elsewhere",
                )
        if not data:
            await self.stat()
        positions: list[int] = []
        for start in range(0, len(data), _AT_ONCE):
            try:
                positions += await self._store(data[start : start + _AT_ONCE])
            except FullError:
                await self._forget(positions)
                raise
        return positions

    async def _store(self, data: list[bytes]) -> list[int]:
        """Store messages; again, while the server is away, those of which nobody knows whether they are."""
        token = os.urandom(9).hex()
        stored: dict[int, int] = {}
        deadline = time.monotonic() + self.broker.timeout
        while True:
            left = [n for n in range(len(data)) if n not in stored]
            lost: BrokenError | None = None
            refused: RefusedError | None = None
            try:
                link = await self.broker.link()
                answers = await asyncio.gather(
                    *(
                        link.ask(self.subject, data[n], {"Nats-Msg-Id": f"{token}-{n}"})
                        for n in left
                    ),
                    return_exceptions=True,
                )
                for n, answer in zip(left, answers, strict=True):
                    try:
                        if isinstance(answer, BaseException):
                            raise answer
                        stored[n] = settled(answer.data)["seq"]
                    except LostError as error:
                        lost = error
                    except RefusedError as error:
                        refused = refused or error
            except BrokenError as error:
                lost = error
            if refused is not None:
                await self._forget(list(stored.values()))
                if refused.args[0] == 503:  # no stream listens
                    await self.stat()
                self.broker.refused(refused, f"log {self.name!r}", need=sum(map(len, data)))
            if len(stored) == len(data):
                return [stored[n] for n in range(len(data))]
            if lost is None or time.monotonic() > deadline:
                raise lost or BrokenError(self.broker.where, "it did not answer; call again")
            await asyncio.sleep(PAUSE)

    async def _forget(self, positions: Sequence[int]) -> int:
        """Delete records, and return how many there were."""
        what = f"STREAM.MSG.DELETE.{self.stream}"
        answers = await asyncio.gather(
            *(
                self.call(what, {"seq": position, "no_erase": True}, known=_NO_MESSAGE)
                for position in positions
            )
        )
        return sum(answer is not None for answer in answers)

    async def read(
        self, after: int = 0, *, limit: int = 256, max_bytes: int = 1 << 20
    ) -> list[Record]:
        check_read(limit)
        while not (found := await self._cursors.read(after, limit, max_bytes)):
            if not await self._beyond(after):
                return []
            # A consumer of the server's hears a moment later of what others have stored.
            await self._cursors.wait(after, SLICE)
        return found

    async def wait(self, after: int, timeout: float | None = None) -> bool:
        if await self._beyond(after):
            return True
        return timeout != 0 and await self._cursors.wait(after, timeout)

    async def _beyond(self, after: int) -> bool:
        """Whether there is a record beyond a position; the stream is asked, no consumer."""
        info = await self.stat()
        if not info.records or info.last <= after:
            return False
        # The last may be deleted: of an append that was refused in part.
        what = {"seq": max(1, after + 1), "next_by_subj": self.subject}
        answer = await self.call(f"STREAM.MSG.GET.{self.stream}", what, known=_NO_MESSAGE)
        return answer is not None

    async def trim(self, through: int) -> int:
        info = await self.stat()
        end = min(through, info.last)
        if not info.records or end < info.first:
            return 0
        self._cursors.forget()
        groups = await self._groups()
        if not groups:
            # Not beyond the last: the stream would go on from there.
            answer = await self.call(f"STREAM.PURGE.{self.stream}", {"seq": end + 1})
            purged: int = answer["purged"]
            return purged
        # A purge makes consumers of JetStream 2.9 forget all that they have delivered, also what is kept:
        # it would never be delivered again. So each record is deleted, and each group is done with it.
        count = 0
        for start in range(info.first, end + 1, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, end + 1))
            count += await self._forget(some)
            for group in groups:
                await group.forget(some)
        return count

    async def _groups(self) -> list[NatsGroup]:
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.call(f"CONSUMER.LIST.{self.stream}", {"offset": len(found)})
            some = answer["consumers"] or []
            found += some
            if not some or len(found) >= answer["total"]:
                break
        names = [one["config"].get("durable_name") for one in found]
        return [NatsGroup(self, name.replace("=", ".")) for name in names if name]

    async def stat(self) -> LogInfo:
        answer = await self.call(f"STREAM.INFO.{self.stream}")
        state, config = answer["state"], answer["config"]
        bounds = (None if config[k] < 0 else config[k] for k in ("max_msgs", "max_bytes"))
        return LogInfo(
            state["messages"],
            state["bytes"],
            state["first_seq"] if state["messages"] else 0,
            state["last_seq"],
            *bounds,
        )

    async def group(self, name: str, *, start: int = 0, ack_wait: float | None = None) -> NatsGroup:
        check_group(name, ack_wait)
        group = NatsGroup(self, name)
        answer = await self.call(group.info, known=(_NO_CONSUMER,))
        config = answer and answer["config"]
        wait = None if ack_wait is None else round(ack_wait * 1e9)
        if config is None:
            config = {
                "durable_name": group.consumer,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": max(1, start + 1),
                "ack_policy": "explicit",
                "ack_wait": wait or round(ACK_WAIT * 1e9),
                "max_deliver": -1,
                "max_ack_pending": -1,
                "replay_policy": "instant",
            }
        elif wait is None or config["ack_wait"] == wait:
            return group
        await self.call(
            f"CONSUMER.DURABLE.CREATE.{self.stream}.{group.consumer}",
            {
                "stream_name": self.stream,
                "config": {**config, "ack_wait": wait or config["ack_wait"]},
            },
        )
        return group

    async def delete(self) -> None:
        self._cursors.forget()
        await self.call(f"STREAM.DELETE.{self.stream}", known=(_NO_STREAM,))
