"""NATS: a server that is killed and returns, its limits, its login."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration.broker.conftest import Traffic, everything
from isthmus.broker import Record
from isthmus.broker.nats import NatsBroker
from isthmus.broker.nats.broker import NatsLog
from isthmus.broker.nats.cursor import Cursors
from isthmus.broker.nats.link import Link, RefusedError
from isthmus.errors import BrokenError, FullError, MissingExtraError, SpecError
from isthmus.testing.broker_contract import in_loop
from isthmus.testing.servers import NatsServer


async def consumers(log: NatsLog) -> int:
    """How many the server keeps for a log: of its groups, of who reads and who waits."""
    answer = await log.call(f"STREAM.INFO.{log.stream}")
    return int(answer["state"]["consumer_count"])


@in_loop
async def test_nothing_acknowledged_is_lost_nor_doubled_when_the_server_is_killed() -> None:
    with NatsServer() as server:

        def restart() -> None:
            server.kill()
            server.start()

        async with NatsBroker(server.url) as broker:
            traffic = Traffic(await broker.open("a"), items=1)
            await traffic.through(3, restart)
        restart()
        async with NatsBroker(server.url) as broker:
            await traffic.check(await everything(await broker.open("a")), whole=True)


@in_loop
async def test_an_append_outlasts_a_restart() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url, timeout=30) as broker:
            log = await broker.open("a")
            await log.append([b"0"])
            process = server._process
            assert process is not None
            # Stopped, so that what is sent has no answer when it dies.
            process.send_signal(signal.SIGSTOP)
            appending = asyncio.ensure_future(log.append([b"1", b"2", b"3"]))
            while len((await broker.link())._asked) < 3:  # under way
                await asyncio.sleep(0)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            positions = await appending
            assert positions == sorted(positions)
            assert await everything(log) == [b"0", b"1", b"2", b"3"]


@in_loop
async def test_a_server_that_goes_away_is_broken_and_returns() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url, timeout=2) as broker:
            log = await broker.open("a")
            group = await log.group("g", ack_wait=0.5)
            positions = await log.append([b"x", b"y"])
            assert len(await group.read("dies")) == 2
            await group.acknowledge(positions[:1])
            waiting = asyncio.ensure_future(log.wait(positions[-1]))
            while await consumers(log) < 2:  # the group's, and that of who waits
                await asyncio.sleep(0.005)
            server.kill()
            with pytest.raises(BrokenError, match="call again"):
                await waiting
            for use in (broker.logs, log.read, log.stat, lambda: group.read("c")):
                with pytest.raises(BrokenError, match="server runs"):
                    await use()
            server.start()
            assert await everything(log) == [b"x", b"y"]
            # Acknowledgements reach its disk later: what was acknowledged just now may come again.
            found: list[bytes] = []
            while b"y" not in found:
                found += [d.data for d in await group.read("lives", timeout=30)]


@in_loop
async def test_waits_that_are_cancelled_leave_nothing_on_the_server() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            log = await broker.open("a")
            for _ in range(5):
                waiting = asyncio.ensure_future(log.wait(0))
                while not await consumers(log):
                    await asyncio.sleep(0.005)
                waiting.cancel()
                await asyncio.wait([waiting])
                while await consumers(log):
                    await asyncio.sleep(0.005)
            await log.append([b"x"])
            assert await log.wait(0)


@in_loop
async def test_more_readers_than_the_server_lets_wait_ask_again_in_peace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusals = 0
    pull = Link.pull

    async def counted(*args: Any, **options: Any) -> list[Any]:
        nonlocal refusals
        try:
            return await pull(*args, **options)
        except RefusedError:
            refusals += 1
            raise

    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            log = await broker.open("a")
            group = await log.group("g")
            monkeypatch.setattr(Link, "pull", counted)
            most = 512  # that wait
            found = await asyncio.gather(*(group.read("c", timeout=0.5) for _ in range(most + 10)))
            assert not any(found)
            assert 10 <= refusals <= 10 * 10


@in_loop
async def test_nobody_waits_in_vain_for_what_an_append_took_back() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            log = await broker.open("a", max_records=3)
            (after,) = await log.append([b"1"])
            with pytest.raises(FullError):
                await log.append([b"2", b"3", b"4"])
            assert await log.wait(after, 0) is False
            waiting = asyncio.ensure_future(log.wait(after))
            await asyncio.sleep(0)
            (position,) = await log.append([b"5"])
            assert await waiting is True
            assert await log.read(after) == [(position, b"5")]


@in_loop
async def test_a_read_finds_what_the_servers_consumer_has_not_heard_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read = Cursors.read
    reads = []

    async def late(*args: Any) -> list[Record]:
        reads.append(args)
        return await read(*args) if len(reads) > 1 else []

    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            log = await broker.open("a")
            await log.append([b"x"])
            monkeypatch.setattr(Cursors, "read", late)
            assert await log.read() == [(1, b"x")]
            assert await log.read(1) == []


@in_loop
async def test_the_log_of_another_prefix_is_not_taken_for_ones_own() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url, "a") as one, NatsBroker(server.url, "a-b") as other:
            await (await one.open("b-c")).append([b"theirs"])
            with pytest.raises(BrokenError, match=r"a-b-c is not log 'c' of prefix 'a-b'"):
                await other.open("c")
            assert await other.logs() == []
            assert await one.logs() == ["b-c"]


@in_loop
async def test_a_record_that_is_too_large_names_the_limit() -> None:
    with NatsServer() as server:
        async with NatsBroker(server.url) as broker:
            log = await broker.open("a")
            with pytest.raises(FullError, match="max_payload is 1048576"):
                await log.append([b"small", bytes(1 << 20)])
            assert await log.read() == []
            await log.append([bytes(1_000_000)])


@in_loop
async def test_a_server_without_jetstream_says_so() -> None:
    class Plain(NatsServer):
        def _command(self, port: int) -> list[str]:
            return [self._program, "-a", "127.0.0.1", "-p", str(port)]

    with Plain() as server:
        async with NatsBroker(server.url) as broker:
            with pytest.raises(BrokenError, match="start the server with -js"):
                await broker.open("a")


@in_loop
async def test_the_login_is_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    with NatsServer("authorization { user: me, password: sesame }") as server:
        monkeypatch.setenv("MY_NATS_PASSWORD", "sesame")
        async with NatsBroker(server.url, username="me", password_env="MY_NATS_PASSWORD") as broker:
            await broker.open("a")
            assert "sesame" not in repr(broker) + repr(broker.config())
        monkeypatch.setenv("MY_NATS_PASSWORD", "wrong")
        async with NatsBroker(server.url, username="me", password_env="MY_NATS_PASSWORD") as broker:
            with pytest.raises(BrokenError, match="password_env"):
                await broker.open("a")
        monkeypatch.delenv("MY_NATS_PASSWORD")
        async with NatsBroker(server.url, username="me", password_env="MY_NATS_PASSWORD") as broker:
            with pytest.raises(SpecError, match="MY_NATS_PASSWORD, which is not set"):
                await broker.open("a")
        async with NatsBroker(server.url, credentials="no-such-file.creds") as broker:
            with pytest.raises((SpecError, MissingExtraError), match=r"no-such-file|nkeys"):
                await broker.open("a")


@in_loop
async def test_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    made = (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem"
    )
    names = ("-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        ["openssl", *made.split(), *names], cwd=tmp_path, check=True, capture_output=True
    )
    cert = os.fspath(tmp_path / "cert.pem")
    with NatsServer(f'tls {{ cert_file: "{cert}", key_file: "{tmp_path}/key.pem" }}') as server:
        async with NatsBroker(server.url, tls=True, ca_file=cert) as broker:
            log = await broker.open("a")
            await log.append([b"x"])
            assert await everything(log) == [b"x"]
        async with NatsBroker(server.url, tls=True) as distrusting:
            with pytest.raises(BrokenError, match=r"(?i)certificate"):
                await distrusting.open("a")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"servers": ""}, "servers"),
        ({"prefix": "a.b"}, "prefix"),
        ({"timeout": 0}, "positive"),
        ({"username": "me"}, "go together"),
        ({"ca_file": "x"}, "tls=True"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        NatsBroker(**options)  # type: ignore[arg-type]
