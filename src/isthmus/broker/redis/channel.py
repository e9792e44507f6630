"""Two connections to the server: one for requests, many at a time; one that hears bells."""

from __future__ import annotations

import asyncio
import contextlib
import select
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.access import redis as access
from isthmus.broker.bell import Bell
from isthmus.errors import BrokenError, ClosedError, SpecError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.broker.redis.broker import RedisBrokerSpec
    from isthmus.broker.redis.scripts import Script

__all__ = ["Channel", "Reply"]

_TOGETHER = 512  # requests that go out before the first reply is read
_FOR_EVER = 1e9  # seconds
_DEAF = 1.0  # seconds without trying to hear bells again, where the server lets nobody


class Reply(NamedTuple):
    """What the server answered: a value, or the text of its refusal."""

    value: Any
    refusal: str


class _Request(NamedTuple):
    script: Script | None
    arguments: tuple[bytes | int, ...]
    future: asyncio.Future[Reply]


class Channel:
    """Sends what is asked in one tick together; connects when first used, and anew after a failure."""

    def __init__(self, spec: RedisBrokerSpec, what: str) -> None:
        access.check(spec, what)
        self.where = access.address(spec)
        self._what = what
        self._spec = spec
        self._library = require("redis", extra="redis", what="the redis broker")
        self._client: Any = None
        self._sentinel: Any = None
        self._connection: Any = None
        self._requests: list[_Request] = []
        self._sending: asyncio.Task[None] | None = None
        self._bells: dict[bytes, Bell] = {}
        self._listening: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._ear: Any = None
        self._deaf_until = 0.0
        self._subscribing: set[asyncio.Task[None]] = set()
        self._closed = False

    # Requests

    async def run(
        self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes | int]
    ) -> Reply:
        """Run a script and return what it answered.

        Raises:
            BrokenError: there was no answer.
        """
        return await self._ask(script, (len(keys), *keys, *arguments))

    async def ask(self, *command: bytes) -> Reply:
        """Return the answer to a plain command."""
        return await self._ask(None, command)

    async def _ask(self, script: Script | None, arguments: tuple[bytes | int, ...]) -> Reply:
        if self._closed:
            raise ClosedError(self.where)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(script, arguments, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await future

    async def _send(self) -> None:
        while self._requests:
            some, self._requests = self._requests[:_TOGETHER], self._requests[_TOGETHER:]
            try:
                await self._exchange(some)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                told = self._told(error)
                for request in some:
                    if not request.future.done():
                        request.future.set_exception(told)
        self._sending = None

    async def _exchange(self, requests: list[_Request]) -> None:
        connection = await self._connected()
        try:
            unknown = await self._try(connection, requests, b"EVALSHA")
            if unknown:  # the server has forgotten, or never seen, the script
                await self._try(connection, unknown, b"EVAL")
        except BaseException:
            self._connection = None
            if self._ear is not None and self._listening is not None:
                # The way to the server is cut: the other connection may never hear of it.
                self._listening.cancel()
            await self._give_up(connection)
            raise

    async def _try(self, connection: Any, requests: list[_Request], verb: bytes) -> list[_Request]:
        """Send requests and settle them, but those whose script is not known: return these."""
        known = verb == b"EVAL"
        await connection.send_packed_command(
            connection.pack_commands(
                [
                    r.arguments
                    if r.script is None
                    else (verb, r.script.text if known else r.script.sha, *r.arguments)
                    for r in requests
                ]
            ),
            check_health=False,
        )
        unknown = []
        for request in requests:
            try:
                reply = Reply(await connection.read_response(), "")
            except self._library.exceptions.NoScriptError:
                unknown.append(request)
                continue
            except self._library.ResponseError as error:
                reply = Reply(None, str(error))
            if not request.future.done():
                request.future.set_result(reply)
        return unknown

    async def _connected(self) -> Any:
        # One that the server has closed meanwhile is noticed here, before a request is lost with it.
        if self._connection is not None and not _alive(self._connection):
            stale, self._connection = self._connection, None
            await self._give_up(stale)
        if self._connection is None:
            self._connection = await self._connect()
            self._deaf_until = 0.0  # the server is back
        return self._connection

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._client is None:
                self._client = self._make_client()
        connection = await self._client.connection_pool.get_connection()
        try:
            if self._spec.durable:
                await self._check_durable(connection)
        except BaseException:
            await self._give_up(connection)
            raise
        return connection

    def _make_client(self) -> Any:
        import redis.asyncio
        from redis.asyncio.retry import Retry
        from redis.asyncio.sentinel import Sentinel
        from redis.backoff import NoBackoff

        spec = self._spec
        options = access.options(spec, self._what)
        options |= {"db": spec.db, "retry": Retry(NoBackoff(), 0)}
        if spec.sentinel:
            asking = {k: v for k, v in options.items() if k.startswith(("socket", "ssl"))}
            asking["password"] = access.secret(spec.sentinel_password_env, self._what)
            self._sentinel = Sentinel(
                list(access.nodes(spec, self._what)), sentinel_kwargs=asking, **options
            )
            return self._sentinel.master_for(spec.sentinel)
        if spec.unix_socket:
            return redis.asyncio.Redis(unix_socket_path=spec.unix_socket, **options)
        return redis.asyncio.Redis(host=spec.hostname, port=spec.port, **options)

    async def _check_durable(self, connection: Any) -> None:
        await connection.send_command("CONFIG", "GET", "append*")
        flat = [text.decode() for text in await connection.read_response()]
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        settings = f"appendonly {found.get('appendonly')}, appendfsync {found.get('appendfsync')}"
        if settings != "appendonly yes, appendfsync always":
            raise SpecError(
                self.where,
                f"its settings are {settings}, and durable=True needs appendonly yes, appendfsync always",
            )

    async def _give_up(self, connection: Any) -> None:
        with contextlib.suppress(self._library.RedisError, OSError):
            await connection.disconnect(nowait=True)
        await self._client.connection_pool.release(connection)

    def _told(self, error: Exception) -> Exception:
        if isinstance(error, self._library.RedisError | OSError) and not isinstance(
            error, BrokenError
        ):
            told = access.silence(self.where, error)
            told.__cause__ = error
            return told
        return error

    # Bells

    def listen(self, channel: bytes) -> Bell:
        """Return the bell of a channel; who waits looks once more when it is sure to be heard."""
        bell = self._bells.get(channel)
        if bell is None:
            bell = self._bells[channel] = Bell()
            if self._ear is not None:
                self._spawn_subscribe(channel)
        loop = asyncio.get_running_loop()
        if self._listening is None and not self._closed and loop.time() >= self._deaf_until:
            self._listening = asyncio.create_task(self._hear())
        return bell

    def _spawn_subscribe(self, channel: bytes) -> None:
        ear = self._ear

        async def subscribe() -> None:
            with contextlib.suppress(self._library.RedisError, OSError):
                await ear.send_command(b"SUBSCRIBE", channel, check_health=False)

        task = asyncio.create_task(subscribe())
        self._subscribing.add(task)
        task.add_done_callback(self._subscribing.discard)

    async def _hear(self) -> None:
        ear = None
        heard = False
        try:
            # Before subscribing: who comes in between subscribes by itself.
            ear = self._ear = await self._connect()
            await ear.send_command(b"SUBSCRIBE", *self._bells, check_health=False)
            while not self._closed:  # the client library swallows a cancellation while it connects
                # A message, or that a subscription stands: either way, look.
                message = await ear.read_response(timeout=_FOR_EVER)
                heard = True
                if bell := self._bells.get(message[1]):
                    bell.ring()
        except (self._library.RedisError, OSError, SpecError):
            pass  # those who wait look, and learn what is wrong
        finally:
            self._ear = self._listening = None
            if not heard:
                # Refused: those who are woken now would have it tried again at once, and again.
                self._deaf_until = asyncio.get_running_loop().time() + _DEAF
            if ear is not None:
                await self._give_up(ear)
            self.ring_all()

    def ring_all(self) -> None:
        """Wake all who wait."""
        for bell in self._bells.values():
            bell.ring()

    async def close(self) -> None:
        """Close the connections when what was asked is answered."""
        self._closed = True
        self.ring_all()
        if self._sending is not None:
            await asyncio.wait([self._sending])
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        if self._connection is not None:
            await self._give_up(self._connection)
        if self._client is not None:
            await self._client.aclose(close_connection_pool=True)
        if self._sentinel is not None:
            for one in self._sentinel.sentinels:
                await one.aclose(close_connection_pool=True)


def _alive(connection: Any) -> bool:
    reader, writer = connection._reader, connection._writer
    # Closing: it was reset. Its socket is closed by now, and the reader has an exception, not an end.
    if reader is None or reader.at_eof() or writer.is_closing():
        return False
    # Nothing is outstanding: what can be read is the end, which the event loop has not seen yet.
    poll = select.poll()
    poll.register(writer.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)
