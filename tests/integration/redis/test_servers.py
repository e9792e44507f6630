"""Servers that go away and return; clusters, sentinels, TLS."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from integration.redis.conftest import Open
from isthmus.connectors.redis import RedisConnector, RedisKey
from isthmus.errors import BrokenError
from isthmus.testing.chores import pattern, seed_of
from isthmus.testing.servers import RedisServer, free_port


def eventually(happens: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_server_that_goes_away_and_returns() -> None:
    with (
        RedisServer("appendonly yes", "appendfsync always") as server,
        RedisConnector("127.0.0.1", server.port) as connector,
    ):
        key = connector.put(pattern(1, 9_000_000))
        server.kill()
        for operation in (lambda: connector.get(key), lambda: connector.put(b"x"), connector.clear):
            with pytest.raises(BrokenError, match=f"127.0.0.1:{server.port}.*server runs"):
                operation()
        with pytest.raises(BrokenError):
            connector.wait(connector.reserve(), 1)
        server.start()
        assert seed_of(connector.get(key) or b"") == 1
        connector.evict(key)


def test_nothing_acknowledged_is_lost_while_the_server_is_killed_during_1000_puts_and_gets() -> (
    None
):
    acknowledged: dict[RedisKey, tuple[int, int]] = {}
    gets = 0
    lock, stop = threading.Lock(), threading.Event()
    torn: list[BaseException] = []

    def check(key: RedisKey, seed: int, size: int) -> None:
        data = connector.get(key)
        assert data is not None, "an acknowledged object is missing"
        assert (seed_of(data), len(data)) == (seed, size)

    def work(worker: int) -> None:
        nonlocal gets
        rng = random.Random(worker)
        seed = worker * 1_000_000
        while not stop.is_set():
            seed += 1
            size = rng.choice((100, 5_000, 50_000, 400_000))
            try:
                if rng.random() < 0.5:
                    key = connector.put(pattern(seed, size))
                else:
                    key = connector.reserve()
                    assert connector.put_at(key, pattern(seed, size)) is True
                with lock:
                    acknowledged[key] = seed, size
                    wanted = rng.choice(list(acknowledged.items()))
                check(wanted[0], *wanted[1])
            except BrokenError:
                time.sleep(0.01)
            except BaseException as error:
                torn.append(error)
                raise
            else:
                with lock:
                    gets += 1

    with (
        RedisServer("appendonly yes", "appendfsync always") as server,
        RedisConnector("127.0.0.1", server.port, chunk_bytes=20_000) as connector,
    ):
        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                before = len(acknowledged)
                eventually(lambda: len(acknowledged) >= before + 200 or bool(torn))  # noqa: B023
                server.kill()
                server.start()
            eventually(lambda: min(gets, len(acknowledged)) >= 1_000 or bool(torn))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not torn
        server.kill()
        server.start()
        for key, (seed, size) in acknowledged.items():
            check(key, seed, size)
        for info in connector.list():  # those whose acknowledgement was lost, too
            data = connector.get(info.key)  # type: ignore[arg-type]
            assert data is not None
            assert len(data) == info.size
            seed_of(data)


def test_a_silent_server_is_broken_after_its_timeout() -> None:
    with (
        RedisServer() as server,
        RedisConnector("127.0.0.1", server.port, timeout=0.2) as connector,
    ):
        key = connector.put(b"x")
        process = server._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(BrokenError, match=str(server.port)):
                connector.get(key)
        finally:
            process.send_signal(signal.SIGCONT)
        assert connector.get(key) == b"x"


def test_a_waiter_is_woken_by_a_message(open_redis: Open) -> None:
    connector = open_redis(chunk_bytes=1_000)
    delays = []
    for size in (10, 5_000):
        key = connector.reserve()
        stored: list[float] = []

        def store(key: RedisKey = key, size: int = size) -> None:
            connector.put_at(key, pattern(1, size))
            stored.append(time.monotonic())  # noqa: B023

        timer = threading.Timer(0.1, store)
        timer.start()
        assert connector.wait(key, 30)
        woken = time.monotonic()
        timer.join()
        delays.append(woken - stored[0])
    # Looking again comes after a whole second: only the message is faster, by far.
    assert max(delays) < 0.5


def test_a_cluster() -> None:
    options = ("cluster-enabled yes", "cluster-node-timeout 2000")
    with RedisServer(*options) as one, RedisServer(*options) as two:
        with redis.Redis(port=one.port) as a, redis.Redis(port=two.port) as b:
            a.execute_command("CLUSTER ADDSLOTSRANGE", 0, 8191)
            b.execute_command("CLUSTER ADDSLOTSRANGE", 8192, 16383)
            a.execute_command("CLUSTER MEET", "127.0.0.1", two.port)
            eventually(lambda: all(c.cluster("info")["cluster_state"] == "ok" for c in (a, b)))
            eventually(lambda: all(c.cluster("info")["cluster_known_nodes"] == "2" for c in (a, b)))
            with (
                RedisConnector("127.0.0.1", one.port) as single,
                pytest.raises(BrokenError, match="cluster=True"),
            ):
                single.put_batch([b"x"] * 20)
            with RedisConnector(
                "127.0.0.1",
                one.port,
                cluster=True,
                nodes=f"127.0.0.1:{two.port}",
                chunk_bytes=1_000,
            ) as connector:
                connector.clear()
                keys = connector.put_batch([pattern(n, 10 + 300 * n) for n in range(30)])
                assert a.dbsize() > 5
                assert b.dbsize() > 5
                for n, data in enumerate(connector.get_batch(keys)):
                    assert bytes(data or b"") == pattern(n, 10 + 300 * n)
                assert {info.key for info in connector.list()} == set(keys)
                assert connector.get_range(keys[29], 950, 100) == pattern(29, 8_710)[950:1050]
                late = connector.reserve()
                timer = threading.Timer(0.05, connector.put_at, (late, pattern(7, 4_000)))
                timer.start()
                assert connector.wait(late, 30)
                timer.join()
                # A slot changes hands: the connector asks anew who has it.
                slots = {k: a.execute_command("CLUSTER KEYSLOT", k.name) for k in keys}
                moved, slot = next((k, slot) for k, slot in slots.items() if slot < 8192)
                connector.evict(moved)
                for client in (b, a):
                    client.execute_command("CLUSTER SETSLOT", slot, "NODE", b.cluster("myid"))
                assert connector.put_at(moved, pattern(9, 9_000)) is True
                assert seed_of(connector.get(moved) or b"") == 9
                leased = connector.put_batch([pattern(n, 300 * n) for n in range(20)], lease=600)
                assert connector.renew([*leased, keys[0]]) == [True] * 20 + [False]
                ttls = [c.pttl(key) for c in (a, b) for key in c.keys() if c.pttl(key) >= 0]
                assert len(ttls) > 50  # chunks too
                assert min(ttls) > 590_000
                assert all(connector.lease(key, None) for key in leased[:19])
                assert connector.lease(leased[19], 0.001)
                eventually(lambda: not connector.exists(leased[19]))
                assert connector.clear() == 31 + 19
                # The server forgets expired chunks that nobody asks for within a moment.
                eventually(lambda: a.dbsize() == b.dbsize() == 0)


def test_a_sentinel_leads_to_the_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_REDIS_PASSWORD", "sesame")
    with RedisServer("requirepass sesame", "masterauth sesame") as primary:
        watching = (
            f"sentinel monitor main 127.0.0.1 {primary.port} 1",
            "sentinel auth-pass main sesame",
            "sentinel down-after-milliseconds main 1000",
        )
        with (
            RedisServer(*watching, sentinel=True) as sentinel,
            RedisConnector(
                "127.0.0.1", sentinel.port, sentinel="main", password_env="MY_REDIS_PASSWORD"
            ) as connector,
        ):
            key = connector.put(pattern(1, 9_000_000))
            assert seed_of(connector.get(key) or b"") == 1
            assert connector.wait(key, 1)
        with (
            RedisServer(*watching, sentinel=True) as sentinel,
            RedisConnector("127.0.0.1", sentinel.port, sentinel="other") as connector,
            pytest.raises(BrokenError, match="'other'"),
        ):
            connector.put(b"x")


def test_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make certificates with")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=our CA")
    openssl("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names")
    openssl("x509", "-req", "-in", "server.csr", "-out", "server.pem", *signing)
    port = free_port()
    with RedisServer(
        f"tls-port {port}",
        f"tls-cert-file {tmp_path}/server.pem",
        f"tls-key-file {tmp_path}/server.key",
        f"tls-ca-cert-file {tmp_path}/ca.pem",
        "tls-auth-clients no",
    ):
        ca = os.fspath(tmp_path / "ca.pem")
        with RedisConnector("127.0.0.1", port, tls=True, ca_file=ca) as connector:
            key_ = connector.put(pattern(1, 9_000_000))
            assert seed_of(connector.get(key_) or b"") == 1
            assert connector.wait(key_, 1)
        with (
            RedisConnector("127.0.0.1", port, tls=True) as distrusting,
            pytest.raises(BrokenError, match=r"(?i)certificate"),
        ):
            distrusting.put(b"x")
        with (
            RedisConnector("localhost", port, tls=True, ca_file=ca) as another_name,
            pytest.raises(BrokenError, match=r"(?i)certificate"),
        ):
            another_name.put(b"x")
