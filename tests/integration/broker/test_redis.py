"""Redis: a server that is killed and returns, its settings, its login."""

from __future__ import annotations

import asyncio
import signal

import pytest

from integration.broker.conftest import Relay, Traffic, everything
from isthmus.broker.redis import RedisBroker
from isthmus.broker.redis import broker as redis_broker
from isthmus.broker.redis import group as redis_group
from isthmus.broker.redis.broker import RedisLog
from isthmus.errors import BrokenError, MissingLogError, SpecError
from isthmus.testing.broker_contract import SOON, in_loop
from isthmus.testing.servers import RedisServer

DURABLE = ("appendonly yes", "appendfsync always")


@in_loop
async def test_nothing_acknowledged_is_lost_when_the_server_is_killed() -> None:
    with RedisServer(*DURABLE) as server:

        def restart() -> None:
            server.kill()
            server.start()

        async with RedisBroker("127.0.0.1", server.port, durable=True) as broker:
            traffic = Traffic(await broker.open("a"), items=3)
            await traffic.through(3, restart)
        restart()
        async with RedisBroker("127.0.0.1", server.port) as broker:
            log = await broker.open("a")
            found = await everything(log)
            await traffic.check(found, whole=True)
            info = await log.stat()
            assert (info.records, info.bytes) == (len(found), sum(map(len, found)))


@in_loop
async def test_deliveries_outlive_a_killed_server() -> None:
    with RedisServer(*DURABLE) as server:
        async with RedisBroker("127.0.0.1", server.port) as broker:
            log = await broker.open("a")
            group = await log.group("g", ack_wait=0.2)
            positions = await log.append([b"done", b"taken", b"new"])
            await group.read("dies", limit=2)
            await group.acknowledge(positions[:1])
            server.kill()
            server.start()
            found: list[tuple[int, int]] = []
            while len(found) < 2:
                for delivery in await group.read("lives", timeout=5):
                    await group.acknowledge([delivery.position])
                    found.append((delivery.position, delivery.attempt))
            assert sorted(found) == [(positions[1], 2), (positions[2], 1)]


@in_loop
async def test_a_server_that_goes_away_is_broken_and_returns() -> None:
    with RedisServer(*DURABLE) as server:
        async with RedisBroker("127.0.0.1", server.port) as broker:
            log = await broker.open("a")
            (position,) = await log.append([b"x"])
            waiting = asyncio.ensure_future(log.wait(position))
            await asyncio.sleep(0)
            await log.stat()
            server.kill()
            with pytest.raises(BrokenError, match=f"{server.port}.*server runs"):
                await waiting
            for use in (broker.logs, log.read, lambda: log.append([b"y"]), log.stat):
                with pytest.raises(BrokenError, match=str(server.port)):
                    await use()
            server.start()
            assert await everything(log) == [b"x"]
            waiting = asyncio.ensure_future(log.wait(position, 30))
            await asyncio.sleep(0)
            await log.append([b"y"])
            assert await waiting


@in_loop
async def test_a_server_that_returns_without_its_data_is_told_apart() -> None:
    with RedisServer() as server:
        async with RedisBroker("127.0.0.1", server.port) as broker:
            log = await broker.open("a")
            await log.append([b"x"])
            server.kill()
            server.start()
            with pytest.raises(MissingLogError, match="without its data"):
                await log.append([b"y"])
            assert await everything(await broker.open("a")) == []


@in_loop
async def test_durable_insists_on_the_servers_settings() -> None:
    with RedisServer("appendonly yes", "appendfsync everysec") as server:
        async with RedisBroker("127.0.0.1", server.port, durable=True) as broker:
            with pytest.raises(SpecError, match="appendfsync everysec"):
                await broker.open("a")


@in_loop
async def test_a_silent_server_is_broken_after_its_timeout() -> None:
    with RedisServer() as server:
        async with RedisBroker("127.0.0.1", server.port, timeout=0.2) as broker:
            log = await broker.open("a")
            process = server._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(BrokenError, match=str(server.port)):
                    await log.append([b"x"])
            finally:
                process.send_signal(signal.SIGCONT)
            await log.append([b"y"])


@in_loop
async def test_the_password_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with RedisServer("requirepass sesame") as server:
        monkeypatch.setenv("MY_REDIS_PASSWORD", "sesame")
        async with RedisBroker(
            unix_socket=server.unix_socket, password_env="MY_REDIS_PASSWORD"
        ) as b:
            await b.open("a")
            assert "sesame" not in repr(b) + repr(b.config())
        async with RedisBroker("127.0.0.1", server.port) as broker:
            with pytest.raises(BrokenError, match="password_env"):
                await broker.open("a")
        monkeypatch.delenv("MY_REDIS_PASSWORD")
        async with RedisBroker(
            "127.0.0.1", server.port, password_env="MY_REDIS_PASSWORD"
        ) as broker:
            with pytest.raises(SpecError, match="MY_REDIS_PASSWORD, which is not set"):
                await broker.open("a")


@in_loop
async def test_a_sentinel_leads_to_the_primary() -> None:
    with RedisServer() as primary:
        watching = (f"sentinel monitor main 127.0.0.1 {primary.port} 1",)
        with RedisServer(*watching, sentinel=True) as sentinel:
            async with RedisBroker("127.0.0.1", sentinel.port, sentinel="main") as broker:
                log = await broker.open("a")
                await log.append([b"x"])
                assert await log.wait(0, 5)
                assert await everything(log) == [b"x"]


@in_loop
async def test_a_connection_that_was_reset_while_idle_is_replaced() -> None:
    with RedisServer() as server:
        async with (
            Relay(server.port) as relay,
            RedisBroker("127.0.0.1", relay.port) as broker,
        ):
            log = await broker.open("a")
            relay.reset()
            while not broker.channel._connection._writer.is_closing():  # the event loop has seen it
                await asyncio.sleep(0.005)
            assert await log.append([b"x"]) == [1]
            assert await log.append([b"y"]) == [2]


@pytest.fixture
def never_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits looks when a bell rings, and not again in this test's life."""
    for module in (redis_broker, redis_group):
        monkeypatch.setattr(module, "LOOK_AGAIN", 1e6)


async def wakes(log: RedisLog, other: RedisLog) -> bool:
    """Whether who waits at one handle wakes up when the other one appends."""
    # Without a timeout, at whose end it would look once more.
    waiting = asyncio.ensure_future(log.wait((await log.stat()).last))
    await asyncio.sleep(0)
    await log.stat()  # answered after it has looked
    await other.append([b"x"])
    async with asyncio.timeout(SOON):
        return await waiting


@pytest.mark.usefixtures("never_looking")
@in_loop
async def test_a_waiter_is_woken_by_a_message_not_by_looking() -> None:
    with RedisServer() as server:
        async with (
            RedisBroker("127.0.0.1", server.port) as broker,
            RedisBroker("127.0.0.1", server.port) as sender,
        ):
            for _ in range(3):
                assert await wakes(await broker.open("a"), await sender.open("a"))
            assert await wakes(await broker.open("b"), await sender.open("b"))


@pytest.mark.usefixtures("never_looking")
@in_loop
async def test_whoever_begins_to_wait_while_the_bells_are_connected_is_heard() -> None:
    with RedisServer() as server:
        async with (
            RedisBroker("127.0.0.1", server.port) as broker,
            RedisBroker("127.0.0.1", server.port) as sender,
        ):
            names = [str(n) for n in range(200)]
            waiting = []
            for log in await asyncio.gather(*(broker.open(n) for n in names)):
                waiting.append(asyncio.ensure_future(log.wait(0)))
                await asyncio.sleep(0)  # one more in each turn of the event loop
            await log.stat()
            for log in await asyncio.gather(*(sender.open(n) for n in names)):
                await log.append([b"x"])
            async with asyncio.timeout(SOON):
                assert all(await asyncio.gather(*waiting))


@pytest.mark.usefixtures("never_looking")
@in_loop
async def test_a_waiter_is_heard_again_where_the_network_swallowed_its_connections() -> None:
    with RedisServer() as server:
        async with (
            Relay(server.port) as relay,
            RedisBroker("127.0.0.1", relay.port, timeout=0.3) as broker,
            RedisBroker("127.0.0.1", server.port) as sender,
        ):
            log, other = await broker.open("a"), await sender.open("a")
            assert await wakes(log, other)
            relay.swallow()
            with pytest.raises(BrokenError):
                await log.stat()
            assert await wakes(log, other)


@in_loop
async def test_who_may_not_hear_looks_and_leaves_the_server_in_peace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_broker, "LOOK_AGAIN", 0.05)
    monkeypatch.setenv("MY_REDIS_PASSWORD", "sesame")
    with RedisServer("user deaf on >sesame ~* +@all resetchannels") as server:
        async with (
            RedisBroker("127.0.0.1", server.port) as broker,
            RedisBroker(
                "127.0.0.1", server.port, username="deaf", password_env="MY_REDIS_PASSWORD"
            ) as deaf,
        ):

            async def connections() -> int:
                found = (await broker.channel.ask(b"INFO", b"stats")).value
                return int(found.partition(b"total_connections_received:")[2].split()[0])

            log = await deaf.open("a")
            before = await connections()
            assert not await log.wait(0, 0.3)
            assert await connections() - before <= 2
            waiting = asyncio.ensure_future(log.wait(0, SOON))
            await (await broker.open("a")).append([b"x"])
            assert await waiting


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prefix": ""}, "prefix"),
        ({"timeout": 0}, "timeout"),
        ({"ca_file": "x"}, "tls=True"),
        ({"unix_socket": "/x", "tls": True}, "unix socket"),
        ({"nodes": "x"}, "host:port"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        RedisBroker(**options)  # type: ignore[arg-type]
