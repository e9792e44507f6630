"""What only a Redis server can do to objects: other programs' keys, lost chunks, no room."""

from __future__ import annotations

import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from integration.redis.conftest import Open
from isthmus.connectors.redis import RedisConnector, RedisKey
from isthmus.errors import BrokenError, FullError, SpecError
from isthmus.store import Store
from isthmus.testing.chores import pattern, seed_of
from isthmus.testing.peer import Peer
from isthmus.testing.servers import RedisServer


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis(port=server.port) as client:
        yield client
        client.flushall()


def keys_of(raw: redis.Redis, connector: RedisConnector) -> list[bytes]:
    prefix: str = connector.config()["prefix"]
    return sorted(k for k in raw.keys() if k.startswith(prefix.encode()))


def test_clear_touches_nothing_but_its_prefix(open_redis: Open, raw: redis.Redis) -> None:
    names = ["app*", "app", "app:more", "appendix", "ap?"]
    connectors = {name: open_redis(prefix=name, chunk_bytes=100) for name in names}
    for name, connector in connectors.items():
        for size in (10, 1_000):
            connector.put(pattern(1, size))
        raw.set(f"{name}:mine", "theirs")
        raw.set(f"{name}:{{mine}}", "theirs")
    assert connectors["app*"].clear() == 2
    assert [len(list(c.list())) for c in connectors.values()] == [0, 2, 2, 2, 2]
    assert connectors["app"].clear() == 2
    assert [len(list(c.list())) for c in connectors.values()] == [0, 0, 2, 2, 2]
    for name in names:
        assert raw.get(f"{name}:mine") == raw.get(f"{name}:{{mine}}") == b"theirs"


def test_an_evicted_object_leaves_no_key(open_redis: Open, raw: redis.Redis) -> None:
    connector = open_redis(chunk_bytes=100)
    key = connector.put(pattern(1, 1_050))
    assert len(keys_of(raw, connector)) == 11
    assert all(raw.ttl(name) == -1 for name in keys_of(raw, connector))
    connector.evict(key)
    assert keys_of(raw, connector) == []
    late = connector.reserve()
    assert connector.put_at(late, pattern(2, 1_050)) is True
    assert connector.put_at(late, pattern(3, 1_050)) is False
    assert len(keys_of(raw, connector)) == 11  # the second one's chunks are not there


def test_a_lost_chunk_is_an_error_and_no_torn_object(open_redis: Open, raw: redis.Redis) -> None:
    connector = open_redis(chunk_bytes=100)
    key = connector.put(pattern(1, 1_000))
    whole = bytes(connector.get(key) or b"")
    chunk = next(name for name in keys_of(raw, connector) if name.endswith(b":7"))
    raw.set(chunk, "short")
    for read in (lambda: connector.get(key), lambda: connector.get_range(key, 650, 100)):
        with pytest.raises(BrokenError, match="lacks some of its 10 chunks"):
            read()
    raw.delete(chunk)
    with pytest.raises(BrokenError, match="evict the object"):
        connector.get(key)
    assert connector.get_range(key, 0, 600) == whole[:600]
    connector.evict(key)
    assert connector.get(key) is None


def test_a_reader_sees_one_object_or_the_next(open_redis: Open) -> None:
    connector = open_redis(chunk_bytes=1_000)
    key = connector.reserve()
    stop = time.monotonic() + 1.0
    rng = random.Random(1)

    def write() -> int:
        turn = 0
        while time.monotonic() < stop:
            turn += 1
            connector.put_at(key, pattern(turn, 50_000))
            time.sleep(0.01 * rng.random())  # readers are anywhere in the object when it goes
            connector.evict(key)
        return turn

    def read() -> int:
        found = 0
        while time.monotonic() < stop:
            if (data := connector.get(key)) is not None:
                assert seed_of(data) > 0
                found += 1
        return found

    with ThreadPoolExecutor(3) as pool:
        writer, readers = pool.submit(write), [pool.submit(read) for _ in range(2)]
        assert writer.result() > 10
        assert sum(reader.result() for reader in readers) > 0


@pytest.mark.parametrize("size", [10, 1_000])
def test_another_programs_key_is_named_and_kept(
    open_redis: Open, raw: redis.Redis, size: int
) -> None:
    connector = open_redis(chunk_bytes=100)
    for make in (lambda k: raw.rpush(k, "x"), lambda k: raw.set(k, "x" * 300)):
        key = connector.reserve()
        name = f"{connector.config()['prefix']}:{{{key.name}}}"
        make(name)
        operations: list[Any] = [
            lambda: connector.get(key),  # noqa: B023
            lambda: connector.get_range(key, 0, 1),  # noqa: B023
            lambda: connector.evict(key),  # noqa: B023
        ]
        for operation in operations:
            with pytest.raises(BrokenError, match="choose another prefix"):
                operation()
        assert connector.put_at(key, bytes(size)) is False
        assert raw.exists(name)
        raw.delete(name)
    assert connector.get(connector.put(b"usable")) == b"usable"


def test_killed_writers_chunks_go_by_themselves(open_redis: Open, raw: redis.Redis) -> None:
    connector = open_redis(chunk_bytes=1_000, unfinished_seconds=1)
    with Peer(connector) as peer:
        peer.start(put_for_ever)
        deadline = time.monotonic() + 20
        while not keys_of(raw, connector) and time.monotonic() < deadline:
            time.sleep(0.001)
        peer.kill()
    left = keys_of(raw, connector)
    assert left
    assert list(connector.list()) == []
    while keys_of(raw, connector) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert keys_of(raw, connector) == []


def put_for_ever(connector: Any) -> None:
    connector.put(bytes(100_000_000))


def test_chunks_without_their_manifest_are_swept(open_redis: Open, raw: redis.Redis) -> None:
    connector = open_redis(chunk_bytes=100)
    kept, broken = connector.put(pattern(1, 1_000)), connector.put(pattern(2, 1_000))
    raw.delete(f"{connector.config()['prefix']}:{{{broken.name}}}")
    assert connector.sweep() == 900
    assert connector.sweep() == 0
    assert seed_of(connector.get(kept) or b"") == 1
    assert len(keys_of(raw, connector)) == 10


@pytest.mark.parametrize("size", [300_000, 5_000_000])
def test_a_full_server_says_so_and_keeps_nothing(size: int) -> None:
    with (
        RedisServer("maxmemory 4mb", "maxmemory-policy noeviction") as server,
        redis.Redis(port=server.port) as raw,
        RedisConnector("127.0.0.1", server.port, chunk_bytes=100_000) as connector,
    ):
        kept: list[tuple[int, RedisKey]] = []

        def fill() -> None:
            for seed in range(100):
                kept.append((seed, connector.put(pattern(seed, size))))  # noqa: PERF401

        with pytest.raises(FullError, match="maxmemory") as caught:
            fill()
        assert caught.value.args[1] == size
        objects = [info.key for info in connector.list()]
        assert sorted(objects) == sorted(key for _, key in kept)
        assert len(raw.keys()) == len(kept) * size // 100_000
        for seed, key in kept:
            assert seed_of(connector.get(key) or b"") == seed
        connector.clear()
        small = connector.put(b"again")
        assert connector.get(small) == b"again"


def test_a_server_that_evicts_chunks_refuses_the_object() -> None:
    with (
        RedisServer("maxmemory 4mb", "maxmemory-policy volatile-ttl") as server,
        RedisConnector("127.0.0.1", server.port, chunk_bytes=100_000) as connector,
    ):
        with pytest.raises((BrokenError, FullError), match="maxmemory"):
            connector.put(bytes(8_000_000))
        assert list(connector.list()) == []


def test_a_store_over_redis_reaches_another_process(open_redis: Open) -> None:
    # Figure 3.5 of the dissertation, the consumer being a process of its own.
    consumer = (
        "import pickle, sys; proxy = pickle.load(sys.stdin.buffer); "
        "assert isinstance(proxy, list); print(sum(proxy))"
    )
    with Store("demo-store", open_redis()) as store:
        proxy = store.proxy([1.0, 2.0, 39.0])
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", consumer],
            input=pickle.dumps(proxy),
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert done.stdout.decode().strip() == "42.0", done.stderr.decode()


def test_no_secret_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_REDIS_PASSWORD", "sesame")
    with RedisServer("requirepass sesame") as server:
        with RedisConnector(
            "127.0.0.1", server.port, password_env="MY_REDIS_PASSWORD"
        ) as connector:
            key = connector.put(b"locked")
            assert "sesame" not in f"{connector!r} {connector.config()}"
            with Peer(connector) as peer:
                assert peer.call(take, key) == b"locked"
        monkeypatch.setenv("MY_REDIS_PASSWORD", "wrong")
        with (
            RedisConnector("127.0.0.1", server.port, password_env="MY_REDIS_PASSWORD") as wrong,
            pytest.raises(BrokenError, match=f"127.0.0.1:{server.port}.*password_env"),
        ):
            wrong.get(key)
        with (
            RedisConnector("127.0.0.1", server.port) as without,
            pytest.raises(BrokenError, match="password_env"),
        ):
            without.get(key)
        monkeypatch.delenv("MY_REDIS_PASSWORD")
        with (
            RedisConnector("127.0.0.1", server.port, password_env="MY_REDIS_PASSWORD") as unset,
            pytest.raises(SpecError, match="MY_REDIS_PASSWORD, which is not set"),
        ):
            unset.get(key)


def take(connector: Any, key: RedisKey) -> bytes:
    return bytes(connector.get(key))


def test_a_database_that_is_not_there(open_redis: Open, server: RedisServer) -> None:
    with (
        RedisConnector("127.0.0.1", server.port, db=4_000) as connector,
        pytest.raises(BrokenError, match="`databases` setting"),
    ):
        connector.put(b"x")
    here, there = open_redis(db=0), open_redis(db=1)
    assert there.get(here.put(b"x")) is None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"prefix": "a{b}"}, "braces"),
        ({"chunk_bytes": 0}, "chunk_bytes"),
        ({"cluster": True, "db": 1}, "database 0"),
        ({"nodes": "somewhere"}, "host:port"),
        ({"ca_file": "ca.pem"}, "tls=True"),
    ],
)
def test_arguments_that_do_not_go_together(options: dict[str, Any], match: str) -> None:
    with pytest.raises(SpecError, match=match):
        RedisConnector(**options)


def test_a_server_that_is_no_cluster_is_ours_to_complain_of(open_redis: Open) -> None:
    server = open_redis().spec
    with (
        RedisConnector(server.hostname, server.port, cluster=True) as connector,
        pytest.raises(BrokenError, match="Cluster mode is not enabled"),
    ):
        connector.put(b"x")


def test_importing_connectors_does_not_import_the_client() -> None:
    code = "import sys, isthmus.connectors, isthmus.store; assert 'redis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ})


@pytest.mark.parametrize("size", [10, 70_000])
def test_an_object_with_its_chunks_goes_by_the_servers_clock(
    open_redis: Open, raw: redis.Redis, size: int
) -> None:
    connector = open_redis(chunk_bytes=10_000)
    key = connector.put(pattern(1, size), lease=600)
    other = connector.put(pattern(2, size))
    lives = [raw.pttl(k) for k in raw.scan_iter(f"*{key.name}*")]
    assert len(lives) == -(-size // 10_000)
    assert all(590_000 < ms <= 600_000 for ms in lives)
    assert connector.lease(other, 100) is True
    assert connector.renew([key, other]) == [True, True]
    assert {raw.pttl(k) // 100_000 for k in raw.scan_iter(f"*{other.name}*")} <= {0, 1}
    assert seed_of(connector.get(other) or b"") == 2
    assert connector.lease(key, 0.001)
    deadline = time.monotonic() + 30
    while list(raw.scan_iter(f"*{key.name}*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert connector.get(key) is None
    assert not list(raw.scan_iter(f"*{key.name}*"))
    assert connector.lease(other, None)
    assert {raw.pttl(k) for k in raw.scan_iter(f"*{other.name}*")} == {-1}
    assert connector.get_range(other, 0, 8) == pattern(2, 8)


def test_a_lease_of_more_than_two_years_is_refused(open_redis: Open) -> None:
    connector = open_redis()
    with pytest.raises(ValueError, match="too long"):
        connector.put(b"x", lease=1e9)
    key = connector.put(b"x", lease=6e7)
    assert connector.renew([key]) == [True]


def test_another_programs_key_gets_no_lease(open_redis: Open, raw: redis.Redis) -> None:
    connector = open_redis()
    key = connector.reserve()
    raw.set(f"{connector.config()['prefix']}:{{{key.name}}}", b"theirs")
    for use in (lambda: connector.lease(key, 5.0), lambda: connector.renew([key])):
        with pytest.raises(BrokenError, match="no object of isthmus"):
            use()
    assert raw.ttl(f"{connector.config()['prefix']}:{{{key.name}}}") == -1
