"""What every kind of connection promises. Subclass `NetContract` and provide `address`. Needs pytest.

A test is a coroutine run by `asyncio.run`, so that nothing of one test's event loop is left to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from typing import TYPE_CHECKING, Any

import pytest

from isthmus.errors import (
    AuthenticationError,
    BrokenError,
    ClosedError,
    LocalProtocolError,
    RemoteProtocolError,
    VersionError,
)
from isthmus.net import Connection, Limits, Listener, Offer, connect, listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from isthmus.net import TLS

__all__ = ["NetContract", "echo"]

TOKEN = b"0123456789abcdef0123456789abcdef"
QUICK = Limits(close_seconds=20)


async def echo(connection: Connection) -> None:
    """Send everything back."""
    async for frame in connection:
        connection.send(frame.payloads, frame.kind)
        await connection.drain()


class NetContract:
    """One kind of address."""

    server_tls: TLS | None = None
    client_tls: TLS | None = None

    @pytest.fixture
    def address(self) -> str:
        """Provide where to listen: a free port, or a path of this test alone."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def listening(
        self, address: str, serve: Callable[[Connection], Awaitable[object]] = echo, **how: Any
    ) -> AsyncIterator[Listener]:
        """Listen as this kind does."""
        how = {"limits": QUICK, **how}
        async with await listen(address, serve=serve, tls=self.server_tls, **how) as listener:
            yield listener

    async def connected(self, listener: Listener, **how: Any) -> Connection:
        """Connect as this kind does."""
        how = {"limits": QUICK, **how}
        return await connect(listener.address, tls=self.client_tls, **how)

    @contextlib.asynccontextmanager
    async def both(
        self, address: str, limits: Limits = QUICK
    ) -> AsyncIterator[tuple[Connection, Connection]]:
        """Give both ends of one connection."""
        end: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        over = asyncio.Event()

        async def serve(connection: Connection) -> None:
            end.set_result(connection)
            await over.wait()

        async with (
            self.listening(address, serve, limits=limits) as listener,
            await self.connected(listener, limits=limits) as connection,
        ):
            try:
                yield connection, await end
            finally:
                over.set()

    # Frames

    def test_frames_come_back_whole_and_in_order(self, address: str) -> None:
        sizes = [0, 1, 100, 4095, 4096, 16_384, 70_000, 300_000, 5_000_000]

        async def main() -> None:
            async with (
                self.listening(address) as listener,
                await self.connected(listener) as connection,
            ):
                sent = [
                    (kind, [os.urandom(size), b"head", os.urandom(sizes[-kind])])
                    for kind, size in enumerate(sizes, 1)
                ]
                for kind, payloads in sent:
                    connection.send(payloads, kind)
                for kind, payloads in sent:
                    frame = await connection.receive()
                    assert frame.kind == kind
                    assert [bytes(p) for p in frame.payloads] == payloads

        asyncio.run(main())

    def test_thousands_of_small_frames(self, address: str) -> None:
        async def main() -> None:
            async with (
                self.listening(address) as listener,
                await self.connected(listener) as connection,
            ):
                for i in range(5000):
                    connection.send([b"%d" % i])
                found = [bytes((await connection.receive()).payloads[0]) for _ in range(5000)]
                assert found == [b"%d" % i for i in range(5000)]
                for i in range(1000):
                    connection.send([b"%d" % i])
                numbers: list[int] = []
                while len(numbers) < 1000:
                    many = await connection.receive_all()
                    numbers += [int(bytes(frame.payloads[0])) for frame in many]
                assert numbers == list(range(1000))

        asyncio.run(main())

    def test_many_send_large_frames_at_once(self, address: str) -> None:
        async def main() -> None:
            bodies = [bytes([i]) * 1_000_000 for i in range(16)]
            async with self.both(address) as (ours, theirs):

                async def one(i: int) -> None:
                    ours.send([b"%d" % i, bodies[i]])
                    await ours.drain()

                async with asyncio.TaskGroup() as group:
                    for i in range(16):
                        group.create_task(one(i))
                    for _ in range(16):
                        number, body = (await theirs.receive()).payloads
                        assert body == bodies[int(bytes(number))]

        asyncio.run(main())

    def test_what_is_no_frame_is_not_sent(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                wrong: list[Any] = [["text"], [memoryview(b"abcd")[::2]], [b""] * 256]
                for payloads in wrong:
                    with pytest.raises(LocalProtocolError):
                        ours.send(payloads)
                with pytest.raises(LocalProtocolError, match="the connection's"):
                    ours.send([], 240)
                ours.send([b"right"])
                assert (await theirs.receive()).payloads == (b"right",)

        asyncio.run(main())

    def test_a_frame_beyond_the_limit_breaks_the_connection(self, address: str) -> None:
        limits = Limits(max_frame_bytes=100_000)

        async def main() -> None:
            async with self.both(address, limits) as (ours, theirs):
                ours.send([b"before"])
                ours.send([bytes(100_001)])
                assert (await theirs.receive()).payloads == (b"before",)
                with pytest.raises(RemoteProtocolError, match="at most 100000"):
                    await theirs.receive()
                with pytest.raises((BrokenError, ClosedError)):
                    await ours.receive()

        asyncio.run(main())

    # Who is there

    def test_both_learn_who_the_other_is(self, address: str) -> None:
        async def main() -> None:
            async def serve(connection: Connection) -> None:
                peer = connection.agreed.peer
                connection.send([peer.role.encode(), peer.identity.encode()])
                await connection.flush()

            server = Offer("relay", "r1", TOKEN, versions=(1, 2), features=0b110)
            client = Offer("agent", "ann", TOKEN, versions=(1, 3), features=0b011)
            async with (
                self.listening(address, serve, handshake=server) as listener,
                await self.connected(listener, handshake=client) as connection,
            ):
                assert (await connection.receive()).payloads == (b"agent", b"ann")
                agreed = connection.agreed
                assert (agreed.peer.role, agreed.peer.identity) == ("relay", "r1")
                assert (agreed.version, agreed.features, agreed.proven) == (2, 0b010, True)

        asyncio.run(main())

    @pytest.mark.parametrize(
        ("server", "client", "error"),
        [
            (Offer(token=TOKEN), Offer(token=b"x" * 32), AuthenticationError),
            (Offer(token=TOKEN), Offer(), AuthenticationError),
            (Offer(), Offer(token=TOKEN), AuthenticationError),
            (Offer(versions=(2, 2)), Offer(versions=(1, 1)), VersionError),
        ],
        ids=["wrong token", "no token", "server without token", "version"],
    )
    def test_the_wrong_peer_is_told_why_and_not_served(
        self, address: str, server: Offer, client: Offer, error: type[Exception]
    ) -> None:
        async def main() -> None:
            async def never(connection: Connection) -> None:
                raise AssertionError(connection)

            async with self.listening(address, never, handshake=server) as listener:
                for _ in range(2):
                    with pytest.raises(error):
                        await self.connected(listener, handshake=client)

        asyncio.run(main())

    # Back-pressure

    def test_a_slow_receiver_stops_the_sender(self, address: str) -> None:
        limits = Limits(send_bytes=100_000, receive_bytes=100_000, close_seconds=0.1)

        async def main() -> None:
            async with self.both(address, limits) as (ours, theirs):
                piece = bytes(50_000)
                sent = 0

                async def send() -> None:
                    nonlocal sent
                    while True:
                        ours.send([piece])
                        sent += len(piece)
                        await ours.drain()

                sender = asyncio.create_task(send())
                before = -1
                while sent != before:  # until nothing moves for many turns of the loop
                    before = sent
                    for _ in range(200):
                        await asyncio.sleep(0)
                # What the kernel keeps is its affair; here it is some megabytes.
                assert sent < 40_000_000
                assert theirs._held < 100_000 + (1 << 18) + len(piece)
                for _ in range(sent // len(piece)):
                    assert len((await theirs.receive()).payloads[0]) == len(piece)
                assert sent > before
                sender.cancel()
                await asyncio.wait([sender])

        asyncio.run(main())

    def test_drain_and_flush_return_at_once_when_nothing_is_queued(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                await ours.drain()
                await ours.flush()
                buffer = bytearray(b"a" * 3_000_000)
                ours.send([buffer])
                reader = asyncio.create_task(theirs.receive())
                await ours.flush()
                buffer[:] = b"b" * len(buffer)  # it is the operating system's by now
                assert (await reader).payloads[0] == b"a" * 3_000_000

        asyncio.run(main())

    # Ends

    def test_a_graceful_end_delivers_everything_first(self, address: str) -> None:
        async def main() -> None:
            async def serve(connection: Connection) -> None:
                for i in range(100):
                    connection.send([b"%d" % i, bytes(50_000)])

            async with self.listening(address, serve) as listener:
                connection = await self.connected(listener)
                found = [int(bytes(frame.payloads[0])) async for frame in connection]
                assert found == list(range(100))
                with pytest.raises(ClosedError, match="by the peer"):
                    await connection.receive()
                with pytest.raises(ClosedError):
                    connection.send([b"too late"])
                await connection.aclose()

        asyncio.run(main())

    def test_a_connection_that_breaks_is_told_from_one_that_was_closed(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                ours.send([b"before"])
                await ours.flush()
                theirs_first = await theirs.receive()
                ours.abort()
                assert theirs_first.payloads == (b"before",)
                with pytest.raises(BrokenError):
                    await theirs.receive()
                with pytest.raises(BrokenError):
                    await anext(theirs)
                with pytest.raises(BrokenError):
                    await theirs.drain()
                assert theirs.closed
                with pytest.raises(ClosedError):
                    await ours.receive()

        asyncio.run(main())

    def test_half_a_frame_is_never_delivered(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                ours.send([b"whole"])
                ours.send([bytes(20_000_000)])
                assert (await theirs.receive()).payloads == (b"whole",)
                ours.abort()
                with pytest.raises(BrokenError):
                    await theirs.receive()

        asyncio.run(main())

    def test_closing_twice_and_together_is_one_closing(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                ours.send([bytes(2_000_000)])
                await asyncio.gather(ours.aclose(), ours.aclose(), theirs.aclose())
                await ours.aclose()
                assert ours.closed
                assert theirs.closed
                with pytest.raises(ClosedError, match="connection to"):
                    ours.send([])

        asyncio.run(main())

    def test_closing_wakes_whoever_waits(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                waiting = [asyncio.create_task(c.receive()) for c in (ours, theirs, ours)]
                await asyncio.sleep(0)
                await ours.aclose()
                for task in waiting:
                    with pytest.raises(ClosedError):
                        await task

        asyncio.run(main())

    def test_a_listener_that_closes_closes_its_connections(self, address: str) -> None:
        async def main() -> None:
            async with self.listening(address) as listener:
                ends = [await self.connected(listener) for _ in range(5)]
                for end in ends:
                    end.send([b"x"])
                    await end.receive()
                assert len(listener.connections) == 5
                await listener.aclose()
                await listener.aclose()
                for end in ends:
                    with pytest.raises(ClosedError):
                        await end.receive()
                with pytest.raises(BrokenError, match="see that somebody listens there"):
                    await self.connected(listener)

        asyncio.run(main())

    # Cancelling

    def test_a_cancelled_receive_loses_nothing(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                for i in range(50):
                    waiting = [asyncio.create_task(theirs.receive()) for _ in range(3)]
                    await asyncio.sleep(0)
                    waiting[0].cancel()
                    ours.send([b"%d" % i])
                    waiting[1 + i % 2].cancel()
                    left = waiting[2 - i % 2]
                    assert (await left).payloads == (b"%d" % i,)
                    await asyncio.wait(waiting)

        asyncio.run(main())

    def test_a_receive_cancelled_as_its_frame_comes_hands_it_on(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                for i in range(30):
                    first, second = (asyncio.create_task(theirs.receive()) for _ in range(2))
                    await asyncio.sleep(0)
                    ours.send([b"%d" % i])
                    while not theirs._frames:  # woken for it is the first, which has not run yet
                        await asyncio.sleep(0)
                    first.cancel()
                    assert (await second).payloads == (b"%d" % i,)
                    assert first.cancelled()

        asyncio.run(main())

    def test_whoever_gave_up_waiting_is_forgotten(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (one, other):
                for _ in range(10):
                    waiting = asyncio.ensure_future(one.receive())
                    await asyncio.sleep(0)
                    waiting.cancel()
                    await asyncio.wait([waiting])
                assert not one._receivers
                one.send([bytes(30_000_000)])
                for wait in (one.drain, one.flush):
                    sending = asyncio.ensure_future(wait())
                    await asyncio.sleep(0)
                    sending.cancel()
                    await asyncio.wait([sending])
                assert not one._drainers
                assert len((await other.receive()).payloads[0]) == 30_000_000

        asyncio.run(main())

    def test_connecting_can_be_cancelled(self, address: str) -> None:
        async def main() -> None:
            async with self.listening(address) as listener:
                for turns in range(12):
                    task = asyncio.create_task(self.connected(listener))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                    if not task.cancelled():
                        await task.result().aclose()
                async with await self.connected(listener) as connection:
                    connection.send([b"still here"])
                    assert (await connection.receive()).payloads == (b"still here",)
            gc.collect()

        asyncio.run(main())

    def test_closing_can_be_cancelled(self, address: str) -> None:
        async def main() -> None:
            async with self.both(address) as (ours, theirs):
                ours.send([bytes(30_000_000)])
                task = asyncio.create_task(ours.aclose())
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                assert ours.closed
                await ours.aclose()
                with pytest.raises((BrokenError, ClosedError)):
                    await theirs.receive()

        asyncio.run(main())
