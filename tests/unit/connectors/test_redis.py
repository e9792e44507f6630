"""Redis without a server: requests and replies over a pair of sockets, names of keys, errors."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.connectors.redis.access import RedisSpec, address, refusal
from isthmus.connectors.redis.layout import HEAD_BYTES, Head, Layout
from isthmus.connectors.redis.link import Link, RefusedError, command, raise_first
from isthmus.errors import BrokenError, FullError

NAME = "0123abcd-1f-0123456789ab"


@pytest.fixture
def ends() -> Iterator[tuple[Link, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield Link(SimpleNamespace(_sock=ours)), theirs


def test_a_request_is_resp_and_its_pieces_are_the_callers_memory() -> None:
    data = memoryview(bytes(100_000))
    request = command(b"SET", b"k", [b"head", data], b"EX", 60)
    assert any(piece is data for piece in request)
    whole = b"".join(request)
    assert whole.startswith(b"*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$100004\r\nhead")
    assert whole.endswith(b"\r\n$2\r\nEX\r\n$2\r\n60\r\n")


def test_every_kind_of_reply(ends: tuple[Link, socket.socket]) -> None:
    link, server = ends
    server.sendall(b"+OK\r\n:-1\r\n$-1\r\n$3\r\na\r\n\r\n*2\r\n:1\r\n$0\r\n\r\n*-1\r\n-ERR no\r\n")
    assert [link.reply() for _ in range(6)] == [b"OK", -1, None, b"a\r\n", [1, b""], None]
    with pytest.raises(RefusedError, match="ERR no"):
        raise_first([link.reply()])


def test_a_large_reply_lands_in_its_place(ends: tuple[Link, socket.socket]) -> None:
    link, server = ends
    data = bytes(range(256)) * 4_000
    sender = threading.Thread(
        target=server.sendall, args=(b"$%d\r\n%b\r\n+OK\r\n" % (len(data), data),)
    )
    sender.start()
    target = bytearray(link.size())  # type: ignore[arg-type]
    link.body(memoryview(target))
    assert target == data
    assert link.reply() == b"OK"
    sender.join()


def test_many_pieces_of_all_sizes_are_sent_in_order(ends: tuple[Link, socket.socket]) -> None:
    link, server = ends
    pieces = [bytes([n % 251]) * (70_000 if n % 7 == 0 else n) for n in range(3_000)]
    whole = b"".join(pieces)
    got = bytearray()

    def receive() -> None:
        while len(got) < len(whole):
            got.extend(server.recv(1 << 20))

    receiver = threading.Thread(target=receive)
    receiver.start()
    link.send([pieces[:1_500], pieces[1_500:]])
    receiver.join()
    assert got == whole


def test_requests_stay_within_the_window(ends: tuple[Link, socket.socket]) -> None:
    link, server = ends
    made = 0

    def requests() -> Iterator[list[bytes]]:
        nonlocal made
        for _ in range(10):
            made += 1
            yield [b"x"]

    server.sendall(b":1\r\n" * 10)
    for read, reply in enumerate(link.run(requests(), window=4)):
        assert reply == 1
        assert made - read <= 4
    assert made == 10


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n", b"x" * 5_000, b"$3\r\nabcde", b"+half"]
)
def test_what_is_no_redis_is_a_broken_connection(
    ends: tuple[Link, socket.socket], answer: bytes
) -> None:
    link, server = ends
    server.sendall(answer)
    server.close()
    with pytest.raises(ConnectionError, match=r"RESP2|closed"):
        link.reply()


@given(
    st.integers(0, 2**63),
    st.integers(1, 2**28),
    st.floats(0, 1e10),
    st.binary(min_size=6, max_size=6),
)
def test_a_head_comes_back(size: int, chunk: int, created: float, token: bytes) -> None:
    head = Head(size, chunk, created, token.hex())
    data = head.write()
    assert len(data) == HEAD_BYTES
    again = Head.read(data + b"the object")
    assert again is not None
    assert again._replace(created=created) == head
    assert abs(again.created - created) <= 0.001


@given(st.binary(max_size=100))
def test_other_bytes_are_no_head(data: bytes) -> None:
    assert Head.read(data) is None


def test_names_of_keys_tell_ours_from_others() -> None:
    layout = Layout("app")
    manifest, chunk = layout.manifest(NAME), layout.chunk(NAME, "0123456789ab", 12)
    assert layout.name(manifest) == NAME
    assert layout.owner(chunk) == (NAME, "0123456789ab")
    assert layout.name(chunk) is None
    assert layout.owner(manifest) is None
    for other in (b"app:{x}", b"app:" + NAME.encode(), b"ap" + manifest, manifest + b"}", b"\xff"):
        assert layout.name(other) is None
        assert layout.owner(other) is None


def test_errors_say_where_and_what_to_do() -> None:
    where = address(RedisSpec("host", 1234))
    full = refusal(where, "OOM command not allowed when used memory > 'maxmemory'.", 77)
    assert isinstance(full, FullError)
    assert "77 bytes in Redis at host:1234; raise its maxmemory" in str(full)
    for text, hint in {
        "NOAUTH Authentication required.": "password_env",
        "READONLY You can't write against a read only replica.": "sentinel=",
        "MOVED 1 127.0.0.1:7": "cluster=True",
    }.items():
        error = refusal(where, text, 0)
        assert isinstance(error, BrokenError)
        assert "host:1234" in str(error)
        assert hint in str(error)
