"""A node's server: how it comes, whom it serves, and how it goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from isthmus.connectors.zmq.messages import Exists, write
from isthmus.errors import BrokenError, FullError, MissingSecretError, SpecError
from isthmus.testing import chores
from isthmus.testing.chores import pattern, seed_of
from isthmus.testing.peer import Peer

LARGE = 9_000_000


def server_of(connector: Any) -> str:
    return connector.put(b"mine").server


def test_many_processes_that_start_at_once_share_a_server(node: Any) -> None:
    here = node.open()
    peers = [node.peer(here) for _ in range(6)]
    for peer in peers:
        peer.start(server_of)
    assert len({*[peer.result() for peer in peers], server_of(here)}) == 1
    assert len(list(here.list())) == 7


def test_nothing_is_started_for_those_who_store_nothing(node: Any) -> None:
    connector = node.open()
    assert list(connector.list()) == []
    assert connector.clear() == connector.sweep() == 0
    assert node.card(connector) is None


def test_a_server_leaves_with_its_last_user(node: Any) -> None:
    first, second = node.open(), node.open()
    key = first.put(b"x")
    first.close()
    assert second.get(key) == b"x"
    card = node.card(second)
    second.close()
    node.close()  # returns when it has left
    assert not os.path.exists(card.socket)
    third = node.open()
    assert third.get(key) is None
    assert not third.exists(key)


def test_a_user_that_is_killed_is_gone_at_once(node: Any) -> None:
    asker = node.open()
    user = node.peer(asker)
    key = user.call(chores.put, 1, 1_000)
    asker.close()
    user.kill()
    node.close()
    later = node.open()
    assert later.get(key) is None


def test_a_server_stays_as_long_as_it_was_asked_to(node: Any) -> None:
    connector = node.open(linger=60)
    key = connector.put(b"for later")
    server = node.card(connector)
    connector.close()
    again = node.open(linger=60)
    assert again.get(key) == b"for later"
    assert node.card(again) == server
    again.close()
    node.kill(again, signal.SIGTERM)
    assert not os.path.exists(server.socket)


def test_a_short_stay_ends_by_itself(node: Any) -> None:
    connector = node.open(linger=0.2)
    connector.put(b"x")
    connector.close()
    node.close()
    assert node.card(connector) is None


def test_a_killed_server_takes_its_objects_along_and_another_starts(node: Any) -> None:
    connector = node.open()
    old = [connector.put(pattern(2, size)) for size in (10, LARGE)]
    reserved = connector.reserve()
    node.kill(connector)
    assert [connector.get(key) for key in old] == [None, None]
    assert not connector.exists(old[0])
    assert connector.stat(old[0]) is None
    assert connector.renew(old) == [False, False]
    connector.evict(old[0])
    for operation in (lambda: connector.put_at(reserved, b"x"), lambda: connector.wait(reserved)):
        with pytest.raises(BrokenError, match="left"):
            operation()
    new = connector.put(b"new")
    assert new.server != old[0].server
    assert connector.get_batch([*old, new]) == [None, None, b"new"]
    node.kill(connector)
    assert connector.put_at(connector.reserve(), b"y")


def test_a_waiter_is_told_that_the_server_died(node: Any) -> None:
    connector = node.open()
    key = connector.reserve()
    peer = node.peer(connector)
    assert peer.call(chores.exists, key) is False
    peer.start(chores.wait, key, 60)
    node.kill(connector)
    with pytest.raises(BrokenError, match=r"gone|left"):
        peer.result()


def test_a_server_that_is_stopped_is_an_error_in_time(node: Any) -> None:
    connector = node.open(timeout=0.3)
    key = connector.put(b"x")
    card = node.card(connector)
    os.kill(card.pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokenError, match=r"no answer in 0\.3 s"):
            connector.get(key)
    finally:
        os.kill(card.pid, signal.SIGCONT)
    assert connector.get(key) == b"x"


def test_without_room_nothing_is_stored(node: Any) -> None:
    limit = 5_000_000
    connector = node.open(max_bytes=limit, chunk_bytes=1 << 20)
    key = connector.put(bytes(limit // 2))
    for size in (limit // 2, 3 * limit):  # in one chunk or several, it is refused before it is sent
        with pytest.raises(FullError, match=f"no room for {size} bytes"):
            connector.put(bytes(size))
    with pytest.raises(FullError):
        connector.put_batch([b"fits", bytes(1_000_000), bytes(1_000_000), bytes(1_000_000)])
    connector.clear()
    assert connector.get(key) is None
    assert connector.get(connector.put(pattern(3, limit - 2_000))) == pattern(3, limit - 2_000)


def test_what_a_killed_writer_left_gives_way(node: Any) -> None:
    connector = node.open(max_bytes=60_000_000)
    connector.put(b"")
    writer = node.peer(connector)
    writer.call(chores.exists, connector.reserve())
    card = node.card(connector)
    writer.start(chores.put, 4, 50_000_000)
    while not list(Path(card.socket).parent.glob("writer-*")):
        pass  # it has announced its object, or is about to
    writer.kill()
    connector.clear()
    whole = connector.put(bytes(50_000_000))  # needs the room that was booked
    assert connector.sweep() == 0
    assert [info.key for info in connector.list()] == [whole]


def test_a_reader_that_is_stopped_stops_nobody_else(node: Any) -> None:
    connector = node.open()
    key = connector.put(bytes(80_000_000))
    reader = node.peer(connector)
    assert reader.call(chores.exists, key)
    reader.start(chores.hold, key)
    reader.send_signal(signal.SIGSTOP)
    try:
        for turn in range(50):
            small = connector.put(pattern(turn, 1_000))
            assert seed_of(connector.get(small)) == turn
        assert len(connector.get(key)) == 80_000_000
        connector.evict(key)
    finally:
        reader.send_signal(signal.SIGCONT)


def test_what_is_no_request_is_ignored(node: Any) -> None:
    import zmq

    connector = node.open()
    key = connector.put(b"x")
    card = node.card(connector)
    with zmq.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.linger = 0
        raw.connect(f"ipc://{card.socket}")
        for garbage in (
            [b""],
            [b"\x93\x00"],
            [os.urandom(300)] * 3,
            [b"\xc0"],
            [b"", b"", b"x" * 99],
        ):
            raw.send_multipart(garbage)
        raw.send_multipart([json.dumps([7, key.name]).encode()])
        raw.send_multipart([write(Exists(key.name))])
        assert raw.poll(20_000)
        raw.recv()
    with socket.create_connection((card.address, card.port)) as plain:
        plain.sendall(os.urandom(500))
    assert connector.get(key) == b"x"


def test_a_key_that_was_named_has_to_be_there(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    connector = node.open(key="env:NO_SUCH_KEY")
    with pytest.raises(MissingSecretError, match="env:NO_SUCH_KEY is not there"):
        connector.put(b"x")
    monkeypatch.setenv("NO_SUCH_KEY", "ab" * 32)
    assert connector.get(connector.put(b"x")) == b"x"


def test_an_address_of_another_node_is_refused(node: Any) -> None:
    for address, error in (
        ("203.0.113.9", BrokenError),
        ("no-such-interface", SpecError),
        ("203.0.113.0/24", SpecError),
    ):
        with pytest.raises(error, match=r"203|no-such"):
            node.open(address=address).put(b"x")


def test_a_port_that_is_taken(node: Any) -> None:
    with socket.socket() as other:
        other.bind((node.address, 0))
        other.listen()
        connector = node.open(port=other.getsockname()[1])
        with pytest.raises(BrokenError, match="in use"):
            connector.put(b"x")


def test_a_lease_runs_out_on_the_server(node: Any) -> None:
    connector = node.open()
    short = connector.put(bytes(10), lease=0.05)
    long, kept = connector.put_batch([b"a", bytes(LARGE)], lease=3_600)
    at = connector.reserve()
    assert connector.put_at(at, b"b", lease=3_600)
    assert connector.lease(kept, None)
    assert connector.renew([long, kept, at]) == [True, False, True]
    gone = threading.Event()
    while connector.exists(short):
        gone.wait(0.01)
    assert connector.stat(kept).until is None
    assert connector.stat(long).until > connector.stat(long).created + 3_000
    assert connector.lease(long, 0.01)
    while connector.exists(long):
        gone.wait(0.01)
    assert {info.key for info in connector.list()} == {kept, at}
    with pytest.raises(ValueError, match="positive"):
        connector.lease(kept, 0)


def test_a_server_survives_a_lease_of_months(node: Any) -> None:
    connector = node.open()
    key = connector.put(b"x", lease=90 * 86_400)  # more milliseconds than ZeroMQ can poll for
    for _ in range(50):  # between some of which it polls
        assert connector.exists(key)
    assert connector.stat(key).until > connector.stat(key).created + 89 * 86_400


def test_more_leases_are_renewed_than_fit_into_one_message(node: Any) -> None:
    connector = node.open()
    key, kept = connector.put(b"a", lease=60), connector.put(b"b")
    assert connector.renew([key] * 650_000 + [kept]) == [True] * 650_000 + [False]


def test_a_closed_handle_lets_go_of_a_waiter(node: Any) -> None:
    from isthmus.errors import ClosedError

    connector = node.open()
    key = connector.reserve()
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            connector.wait(key)
        except ClosedError as error:
            raised.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    connector.close()
    waiting.join(20)
    assert len(raised) == 1


def test_it_goes_on_in_a_forked_child_whose_parent_has_closed(node: Any) -> None:
    connector = node.open()
    key = connector.put(b"x")
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(ready, 1)
        os._exit(0 if connector.get(key) == b"x" else 1)
    connector.close()
    os.write(go, b"x")
    os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(ready)


def test_a_peer_is_a_user_before_it_stores_anything(node: Any) -> None:
    connector = node.open()
    with Peer(connector) as peer:
        assert peer.call(chores.exists, connector.put(b"x"))
        key = connector.put(b"kept")
        connector.close()
        assert peer.call(chores.get, key) == b"kept"
