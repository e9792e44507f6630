"""Objects of one node on another: two folders and two loopback addresses stand for two machines."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.cli import main
from isthmus.connectors.zmq import ZmqConnector, ZmqKey
from isthmus.connectors.zmq.node import node_id
from isthmus.errors import BrokenError, ElsewhereError, MissingObjectError, MissingSecretError
from isthmus.store import Store
from isthmus.testing import chores
from isthmus.testing.chores import pattern, seed_of

LARGE = 9_000_000


def test_each_finds_the_others_objects(nodes: Any) -> None:
    one, two = nodes[0].open(), nodes[1].open()
    for here, there in ((one, two), (two, one)):
        keys = [here.put(pattern(5, size)) for size in (8, 1_000, LARGE)]
        assert keys[0].address == here.spec.address
        assert [bytes(found) for found in there.get_batch(keys)] == [
            pattern(5, size) for size in (8, 1_000, LARGE)
        ]
        assert (
            there.get_range(keys[2], 2_000_000, 2_000_000) == pattern(5, LARGE)[2_000_000:4_000_000]
        )
        assert there.exists(keys[2])
        assert there.stat(keys[2]).size == LARGE
        there.evict(keys[2])
        assert here.get(keys[2]) is None
    assert {info.key.address for info in one.list()} == {"127.0.0.1"}
    mixed = [one.put(b"1"), two.put(b"2"), one.put(b"3")]
    assert one.get_batch(mixed) == [b"1", b"2", b"3"]


def test_what_one_reserved_the_other_stores_and_both_wait_for(nodes: Any) -> None:
    one, two = nodes[0].open(), nodes[1].open()
    for size in (10, LARGE):
        key = one.reserve()
        peer = nodes[1].peer(two)
        assert peer.call(chores.exists, key) is False
        peer.start(chores.wait, key, 60)
        assert two.put_at(key, pattern(6, size))
        assert not one.put_at(key, b"late")
        assert peer.result() is True
        assert seed_of(one.get(key)) == 6
        assert two.lease(key, 3_600)
        assert two.renew([key, one.put(b"no lease")]) == [True, False]


def test_a_consumer_starts_nothing_of_its_own(nodes: Any) -> None:
    key = nodes[0].open().put(b"x")
    consumer = nodes[1].open()
    assert consumer.get(key) == b"x"
    assert nodes[1].card(consumer) is None


def test_a_proxy_of_an_array_resolves_on_another_node(nodes: Any) -> None:
    with Store("zmq-nodes", nodes[0].open()) as store:
        array = np.arange(400_000.0)
        proxy = store.proxy(array)
        wire = pickle.dumps(proxy)
        assert len(wire) <= 250
        peer = nodes[1].peer(nodes[1].open())
        assert peer.call(total, wire) == array.sum()
        key = store.put("soon gone")
        store.evict(key)
        with pytest.raises(MissingObjectError):
            len(store.proxy_from_key(key))


def total(_: Any, wire: bytes) -> float:
    return float(pickle.loads(wire).sum())


def test_another_key_is_not_let_in(nodes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "11" * 32)
    ours = nodes[0].open(key="env:OUR_KEY")
    key = ours.put(b"secret")
    thief = nodes[1].open(key="env:THEIR_KEY", timeout=5)
    monkeypatch.setenv("THEIR_KEY", "22" * 32)
    with pytest.raises(MissingSecretError, match=key.server.split("-")[1]):
        thief.get(key)
    # Nor if it says that it has the right one: the server knows better.
    claimed = thief.put(b"").server.split("-")[1]
    forged = key._replace(server="-".join([key.server[:8], claimed, key.server[-8:]]))
    with pytest.raises(BrokenError, match="did not let us in"):
        thief.get(forged)
    assert nodes[1].open(key="env:OUR_KEY").get(key) == b"secret"


def test_a_client_key_alone_is_not_enough(nodes: Any) -> None:
    """Who knows the server's public key, but not the secret, is turned away by the server."""
    import zmq

    one = nodes[0].open()
    one.put(b"x")
    card = nodes[0].card(one)
    curve = one._channel._credentials.for_server()
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.curve_serverkey = curve.server_public
        stranger.curve_publickey, stranger.curve_secretkey = public, secret
        monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        stranger.connect(f"tcp://{card.address}:{card.port}")
        assert monitor.poll(20_000)
        assert not stranger.poll(0)
        stranger.disable_monitor()
        monitor.close()


def test_a_node_without_the_key_says_where_to_get_it(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = nodes[0].open().put(b"x")
    monkeypatch.setenv("ISTHMUS_CONFIG_DIR", str(tmp_path / "another home"))
    with ZmqConnector("elsewhere", "127.0.0.2") as connector:
        with pytest.raises(MissingSecretError, match=r"zmq\.key is not there; copy that file"):
            connector.get(key)
    assert (tmp_path / "zmq.key").stat().st_mode & 0o777 == 0o600


def test_a_server_that_came_back_under_the_same_address(nodes: Any) -> None:
    one, two = nodes[0].open(), nodes[1].open()
    key = one.put(b"x")
    assert two.get(key) == b"x"
    nodes[0].kill(one)
    assert two.get(key) is None
    again = nodes[0].open("another", port=key.port)
    again.put(b"y")
    assert two.get(key) is None
    assert two.get(key) is None


def test_an_address_that_another_node_has_now(nodes: Any) -> None:
    one, two = nodes[0].open(), nodes[1].open()
    key = one.put(b"x")
    other_host = "0" * 8
    assert node_id() != other_host
    loopback = key._replace(server=other_host + key.server[8:])
    with pytest.raises(ElsewhereError, match="loopback"):
        two.get(loopback)


def test_nobody_answers(nodes: Any) -> None:
    two = nodes[1].open(timeout=0.5)
    server = two.put(b"x").server
    # An address that nothing routes to, by RFC 5737.
    key = ZmqKey("192.0.2.77", 9, "0" * 8 + server[8:], two.reserve().name)
    with pytest.raises(BrokenError, match=r"192\.0\.2\.77"):
        two.get(key)


def test_the_command_line_lists_it(nodes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    nodes[1].open()
    for name in ("first", "second"):
        key = nodes[0].open(name).put(bytes(2_000))
    assert main(["store", "ls", "--kind", "zmq", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(e["name"], e["objects"], e["bytes"]) for e in found] == [
        ("first", 1, 2_000),
        ("second", 1, 2_000),
    ]
    assert main(["store", "ls", "--kind", "zmq", "--objects", "--option", "name=second"]) == 0
    assert key.name in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert f"127.0.0.1:{key.port} (process" in capsys.readouterr().out
