"""One connection to a NATS server: requests with answers, and pulls; broken once, it stays broken."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import ssl
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.errors import BrokenError, IsthmusError, SpecError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from isthmus.broker.nats.broker import NatsBrokerSpec

__all__ = ["PAUSE", "Link", "LostError", "RefusedError", "where"]

PAUSE = 0.05
"""Seconds before what the server could not do is asked for again."""

_GOODBYE = 0.5
_ANSWER = 0.2  # seconds: whoever has not answered then may not be there


class LostError(BrokenError):
    """The connection broke while an answer was awaited: what was asked may or may not be done."""


class RefusedError(Exception):
    """An error that JetStream answered. ``args``: its number, its text."""


def where(spec: NatsBrokerSpec) -> str:
    """Return what errors call the server."""
    return f"NATS at {spec.servers}"


class Link:
    """A connection of the client library, which is told not to reconnect.

    Reconnecting is for the broker: what was asked and not answered has to be asked again there, or not.
    """

    def __init__(self, spec: NatsBrokerSpec, client: Any) -> None:
        self._spec = spec
        self._client = client
        self._numbers = itertools.count(1)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._inbox = ""
        self.broken: IsthmusError | None = None

    @classmethod
    async def connect(cls, spec: NatsBrokerSpec) -> Link:
        """Connect and log in.

        Raises:
            BrokenError: no server answers, or it refuses the login.
            SpecError: a variable or file that the login needs is not here.
        """
        library = require("nats", extra="nats", what="the nats broker")
        client = library.NATS()
        link = cls(spec, client)

        async def closed() -> None:
            link.lose(LostError(where(spec), "the connection broke; call again"))

        async def ignore(_: Exception) -> None:
            pass  # whoever asked is told

        try:
            async with asyncio.timeout(spec.timeout):
                await client.connect(
                    servers=[s.strip() for s in spec.servers.split(",")],
                    allow_reconnect=False,
                    closed_cb=closed,
                    disconnected_cb=closed,
                    error_cb=ignore,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0.01,
                    connect_timeout=spec.timeout,
                    ping_interval=10,
                    **_login(spec),
                )
                link._inbox = client.new_inbox()
                await client.subscribe(f"{link._inbox}.*", cb=link._answered)
        except (OSError, TimeoutError, library.errors.Error, ssl.SSLError) as error:
            await _close(client)
            if isinstance(error, IsthmusError):
                raise
            raise BrokenError(
                where(spec), f"{str(error) or type(error).__name__}; {_hint(error)}"
            ) from error
        return link

    @property
    def max_payload(self) -> int:
        """Bytes that a message may have, headers included."""
        return int(self._client.max_payload)

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> Any:
        """Return the message that answers.

        Raises:
            LostError: the connection broke before it came.
            BrokenError: it did not come in time.
            RefusedError: nobody listens to the subject (503).
        """
        token = f"{self._inbox}.{next(self._numbers)}"
        future = self._future()
        self._asked[token] = future
        try:
            await self._publish(subject, data, token, headers)
            async with asyncio.timeout(self._spec.timeout):
                answer = await future
        except TimeoutError:
            raise BrokenError(
                where(self._spec), f"no answer within {self._spec.timeout:g} s; call again"
            ) from None
        finally:
            del self._asked[token]
            self._waiting.discard(future)
        if (answer.headers or {}).get("Status") == "503":
            raise RefusedError(503, "nobody listens")
        return answer

    async def call(self, what: str, body: Any = None) -> dict[str, Any]:
        """Return the answer to a request of JetStream's management.

        Raises:
            RefusedError: it is an error.
        """
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            answer = await self.ask(f"$JS.API.{what}", data)
        except RefusedError:
            raise BrokenError(
                where(self._spec), "JetStream is not there; start the server with -js"
            ) from None
        return settled(answer.data)

    async def tell(self, subject: str) -> None:
        """Send a request whose answer nobody needs; it may get lost."""
        with contextlib.suppress(IsthmusError):
            await self._publish(subject, b"", "", None)

    async def pull(
        self,
        stream: str,
        consumer: str,
        batch: int,
        check: Callable[[], Awaitable[object]],
        *,
        expires: float,
        max_bytes: int = 0,
    ) -> list[Any]:
        """Return the next messages of a consumer: what is there, or else the first to come.

        Args:
            stream: whose consumer.
            consumer: the server's.
            batch: at most so many.
            check: raises, if the consumer is gone: JetStream does not answer then.
            expires: seconds to wait for the first; 0: do not.
            max_bytes: at most so many, of all with their headers.

        Raises:
            RefusedError: the consumer is gone, or the next message exceeds `max_bytes`.
        """
        found: list[Any] = []
        done = self._future()

        async def came(message: Any) -> None:
            status = (message.headers or {}).get("Status") if not message.data else None
            if status is None or message.reply:
                found.append(message)
                if len(found) == batch and not done.done():
                    done.set_result(None)
            elif status != "100" and not done.done():
                done.set_result((int(status), message.headers.get("Description", "")))

        request: dict[str, Any] = {"batch": batch, "no_wait": True}
        if expires > 0:
            request["expires"] = round(expires * 1e9)
        if max_bytes:
            request["max_bytes"] = max_bytes
        inbox = self._client.new_inbox()
        subscription = await self._subscribe(inbox, came)
        try:
            await self._publish(
                f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
                msgspec.json.encode(request),
                inbox,
                None,
            )
            await asyncio.wait([done], timeout=expires + _ANSWER)
            if not done.done():
                await check()
            async with asyncio.timeout(self._spec.timeout):
                status = await done
        except TimeoutError:
            raise BrokenError(where(self._spec), "it does not answer; call again") from None
        finally:
            self._waiting.discard(done)
            with contextlib.suppress(Exception):
                await subscription.unsubscribe()
        if status and not found and status[0] in (409, 503):
            raise RefusedError(*status)
        return found

    async def _subscribe(self, inbox: str, came: Any) -> Any:
        try:
            return await self._client.subscribe(inbox, cb=came)
        except Exception as error:
            raise self._lost(error) from error

    async def _publish(
        self, subject: str, data: bytes, reply: str, headers: dict[str, str] | None
    ) -> None:
        if self.broken is not None:
            raise self.broken
        try:
            await self._client.publish(subject, data, reply=reply, headers=headers)
        except Exception as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> IsthmusError:
        lost = self.broken or LostError(where(self._spec), str(error) or type(error).__name__)
        if self._client.is_closed:  # the client library does not always call back
            self.lose(lost)
        return lost

    async def _answered(self, message: Any) -> None:
        future = self._asked.get(message.subject)
        if future is not None and not future.done():
            future.set_result(message)

    def _future(self) -> asyncio.Future[Any]:
        if self.broken is not None:
            raise self.broken
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        return future

    def lose(self, error: IsthmusError) -> None:
        """Tell all who wait for an answer that none comes."""
        self.broken = self.broken or error
        for future in self._waiting:
            if not future.done():
                future.set_exception(error)

    async def close(self, error: IsthmusError) -> None:
        """Close the connection; who waits gets `error`."""
        self.lose(error)
        await _close(self._client)


async def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        # After a TLS handshake that failed, the client library waits for ever for its end.
        async with asyncio.timeout(_GOODBYE):
            await client.close()


def settled(data: bytes) -> dict[str, Any]:
    """Return an answer of JetStream's that is no error."""
    answer: dict[str, Any] = msgspec.json.decode(data)
    if error := answer.get("error"):
        raise RefusedError(error.get("err_code", error["code"]), error["description"])
    return answer


def _login(spec: NatsBrokerSpec) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if spec.username is not None:
        made["user"] = spec.username
        made["password"] = _secret(spec.password_env)
    if spec.token_env is not None:
        made["token"] = _secret(spec.token_env)
    if spec.credentials is not None:
        require("nkeys", extra="nats", what="a NATS credentials file")
        if not os.path.exists(spec.credentials):
            raise SpecError("NatsBroker", f"there is no credentials file {spec.credentials}")
        made["user_credentials"] = spec.credentials
    if spec.tls:
        context = ssl.create_default_context(cafile=spec.ca_file)
        if spec.cert_file:
            context.load_cert_chain(spec.cert_file, spec.key_file)
        made["tls"] = context
    return made


def _secret(variable: str | None) -> str:
    value = os.environ.get(variable or "")
    if value is None:
        raise SpecError(
            "NatsBroker",
            f"its password is in the environment variable {variable}, which is not set in this process",
        )
    return value


def _hint(error: Exception) -> str:
    if "uthorization" in str(error):
        return "set username and password_env, token_env, or credentials"
    if "ertificate" in str(error):
        return "set ca_file to the authority that signed its certificate"
    return "see that the server runs there, then call again"
