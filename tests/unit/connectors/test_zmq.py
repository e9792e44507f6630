"""The parts of the ZeroMQ connector that need no server: objects in memory, messages, chunks, addresses."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.connectors.zmq import ZmqConnector, messages
from isthmus.connectors.zmq.access import ZmqSpec, check, is_loopback, listening_address, tcp
from isthmus.connectors.zmq.credentials import Credentials
from isthmus.connectors.zmq.service import Asker, Response, Service
from isthmus.connectors.zmq.transfer import cut
from isthmus.connectors.zmq.vault import ENTRY_BYTES, Draft, FullVaultError, Vault
from isthmus.errors import BrokenError, MissingSecretError, SpecError


def vault(limit: int = 10_000) -> Vault[bytes]:
    return Vault(limit)


def put(v: Vault[bytes], name: str, data: bytes, **options: Any) -> bool:
    return v.put(
        name, [data], **{"absent": False, "lease": None, "created": 0, "now": 0, **options}
    )


# Objects in memory


def test_room_is_counted_and_given_back() -> None:
    v = vault(3 * ENTRY_BYTES)
    assert put(v, "a", bytes(ENTRY_BYTES))
    assert v.used == 2 * ENTRY_BYTES
    with pytest.raises(FullVaultError):
        put(v, "b", b"x")
    assert put(v, "c", b"")
    assert v.evict("a")
    assert not v.evict("a")
    assert v.clear() == 1
    assert v.used == 0


def test_an_object_appears_when_its_last_chunk_is_there() -> None:
    v = vault()
    number = v.begin(Draft("a", 6, "", False, None), now=0)
    assert v.used == ENTRY_BYTES + 6
    v.add(number, [b"ab", b"c"], now=0)
    assert v.find("a") is None
    v.add(number, [b"def"], now=0)
    assert v.finish(number, created=7, now=0) is True
    entry = v.find("a")
    assert entry is not None
    assert b"".join(entry.frames()) == b"abcdef"
    assert (entry.size, entry.created, v.drafts) == (6, 7, 0)
    assert v.finish(number, created=7, now=0) is None


@pytest.mark.parametrize("sent", [b"", b"12", b"1234"])
def test_one_of_another_size_than_announced_is_given_up(sent: bytes) -> None:
    v = vault()
    number = v.begin(Draft("a", 3, "", False, None), now=0)
    v.add(number, [sent], now=0)
    v.add(99, [b"of nobody"], now=0)
    assert v.finish(number, created=0, now=0) is None
    assert v.find("a") is None
    assert v.used == 0


def test_of_two_writers_of_one_name_the_first_to_finish_wins() -> None:
    v = vault()
    one = v.begin(Draft("a", 1, "", True, None), now=0)
    two = v.begin(Draft("a", 1, "", True, None), now=0)
    v.add(one, [b"1"], now=0)
    v.add(two, [b"2"], now=0)
    assert v.finish(two, created=0, now=0) is True
    assert v.finish(one, created=0, now=0) is False
    assert v.begin(Draft("a", 1, "", True, None), now=0) == 0
    assert put(v, "a", b"3", absent=True) is False
    assert v.used == ENTRY_BYTES + 1


def test_dead_and_silent_writers_are_given_up_and_living_ones_are_not() -> None:
    v = vault()
    for writer in ("dead", "alive", ""):
        number = v.begin(Draft(writer, 100, writer, False, None), now=0)
        v.add(number, [bytes(10)], now=5)
    assert v.sweep(lambda writer: writer == "alive", now=6) == 10
    assert v.drafts == 2
    assert v.sweep(lambda writer: True, now=70) == 10  # on another node, silent for a minute
    assert v.sweep(lambda writer: True, now=700) == 10  # alive, and silent for ten
    assert v.used == 0


def test_leases_run_out_unless_renewed() -> None:
    v = vault()
    put(v, "short", b"12", lease=1)
    put(v, "long", b"345", lease=5)
    put(v, "none", b"6")
    assert v.next_due() == 1
    assert v.expire(0.9) == 0
    assert v.renew("short", now=0.9)
    assert not v.renew("none", now=0.9)
    assert not v.renew("nobody", now=0.9)
    assert v.expire(1.5) == 0
    assert v.expire(2.0) == 2
    assert v.lease("long", None, now=2)
    assert v.expire(1e9) == 0
    assert v.lease("none", 1, now=0)
    assert v.expire(1) == 1
    assert not v.lease("none", 1, now=0)
    # One of the same name that came later is another object.
    put(v, "again", b"1", lease=1, now=0)
    v.evict("again")
    put(v, "again", b"1", now=0)
    assert v.expire(50) == 0
    assert v.next_due() == float("inf")


def test_renewals_take_no_more_room_than_objects() -> None:
    v = vault()
    put(v, "a", b"", lease=1)
    for turn in range(1_000):
        assert v.renew("a", now=turn)
    assert len(v._due) < 100
    assert v.expire(999.5) == 0
    assert v.expire(1_000) == 0
    assert v.find("a") is None


def test_entries_are_listed_in_pages() -> None:
    v = vault(100_000)
    for n in range(10):
        put(v, str(n), bytes(n))
    first = v.entries(0, 4)
    assert [name for name, _ in first] == ["0", "1", "2", "3"]
    rest = v.entries(first[-1][1].serial, 100)
    assert [name for name, _ in rest] == [str(n) for n in range(4, 10)]


# Requests

ASKER = Asker("socket", b"route")


def test_pages_do_not_skip_over_what_went_meanwhile() -> None:
    v = vault(limit=100 * ENTRY_BYTES)
    for n in range(10):
        put(v, f"{n}", b"")
    first = v.entries(0, 4)
    v.evict("1")
    v.evict("5")
    put(v, "5", b"")  # another object of that name
    rest, after = [], first[-1][1].serial
    while page := v.entries(after, 2):
        rest += page
        after = page[-1][1].serial
    assert [name for name, _ in first + rest] == list("01234") + list("67895")


def service(sent: list[Any] | None = None, max_bytes: int = 100_000) -> Service:
    def send(asker: Asker, response: Response) -> None:
        if sent is not None:
            sent.append((asker, response.reply))

    return Service("/nonexistent", max_bytes, send)


def test_a_service_answers_what_it_was_told() -> None:
    s = service()

    def ask(request: Any, *frames: bytes, now: float = 0) -> Any:
        return s.answer(request, frames, ASKER, now)

    assert ask(messages.Put("a", 3), b"abc").reply == messages.Answer(1)
    assert isinstance(ask(messages.Put("b", 3), b"ab").reply, messages.Refused)
    found = ask(messages.Get("a"))
    assert (found.reply.size, found.reply.chunks, b"".join(found.frames)) == (3, 1, b"abc")
    assert ask(messages.Get("a", 0, found.reply.serial + 1)).reply == messages.Missing()
    assert isinstance(ask(messages.Get("a", 1)).reply, messages.Refused)
    assert ask(messages.Range("a", 1, 9)).frames == [b"bc"]
    assert isinstance(ask(messages.Range("a", 0, 1 << 40)).reply, messages.Refused)
    assert ask(messages.Lease("a", 2)).reply == messages.Answer(1)
    assert ask(messages.Stat("a")).reply.found[0].left == 2
    assert s.pause(0.5) == pytest.approx(1_501)
    s.tidy(3)
    assert ask(messages.Exists("a")).reply == messages.Answer(0)
    assert s.pause(3) is None


def test_what_goes_wrong_with_one_request_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a mistake of ours")

    me, one = Asker(None, b"me"), service()
    one.answer(messages.Put("a", 1, False, None), [b"x"], me, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Vault, "find", fail)
        patch.setattr(Vault, "add", fail)
        told = one.answer(messages.Exists("a"), [], me, 0)
        assert told == Response(
            messages.Refused("the server failed with RuntimeError: a mistake of ours")
        )
        assert one.answer(messages.Part(1), [b"x"], me, 0) is None
    assert one.answer(messages.Exists("a"), [], me, 0) == Response(messages.Answer(1))
    assert "Exists: RuntimeError: a mistake of ours" in capfd.readouterr().err


@pytest.mark.parametrize("writer", ["..", ".", "socket", "writer-1-2/../x", "writer-1"])
def test_a_writers_file_is_one_of_its_own(writer: str) -> None:
    begin = messages.Begin("a", 10_000_000, writer, False, None)
    reply = service(max_bytes=1 << 30).answer(begin, [], Asker(None, b"me"), 0)
    assert reply is not None
    assert isinstance(reply.reply, messages.Refused)


@pytest.mark.parametrize("seconds", [25 * 86_400.0, 1e15, 1e300])
def test_a_lease_of_weeks_or_ages_is_no_pause_that_cannot_be_polled_for(seconds: float) -> None:
    s = service()
    s.answer(messages.Put("a", 1, lease=seconds), [b"x"], ASKER, 0)
    pause = s.pause(0)
    assert pause is not None
    assert 0 < pause < 1 << 31


def test_waiters_are_told_when_it_comes_or_when_time_is_up() -> None:
    sent: list[Any] = []
    s = service(sent)
    others = [Asker("socket", bytes([n])) for n in range(3)]
    for asker, name, seconds in zip(others, ("a", "a", "b"), (1.0, 5.0, 50.0), strict=True):
        assert s.answer(messages.Wait(name, seconds), (), asker, 0) is None
    assert s.answer(messages.Wait("a", 0.0), (), ASKER, 0) == Response(messages.Answer(0))
    s.tidy(2)
    assert sent == [(others[0], messages.Answer(0))]
    s.answer(messages.Put("a", 1), [b"x"], ASKER, 2)
    assert sent[1:] == [(others[1], messages.Answer(1))]
    s.tidy(5)
    assert s.pause(5) == pytest.approx(45_001)
    assert s.answer(messages.Wait("a", 9.0), (), ASKER, 2) == Response(messages.Answer(1))


@given(st.binary(max_size=80))
def test_whatever_bytes_come_are_a_request_or_an_error(data: bytes) -> None:
    try:
        request = messages.read_request(data)
    except msgspec.DecodeError:
        return
    answered = service().answer(request, (), ASKER, 0) if type(request) is not messages.Hello else 0
    assert answered is None or answered == 0 or isinstance(answered, Response)


@pytest.mark.parametrize(
    "wrong",
    [
        messages.Put("a", -1),
        messages.Begin("a", -5, ""),
        messages.Put("x" * 99, 0),
        messages.Range("a", -1, 5),
        messages.Get("a", -1),
        messages.Lease("a", -1.0),
        messages.Renew(["x" * 99]),
        messages.Answer(1),
    ],
    ids=repr,
)
def test_what_could_do_harm_is_no_request(wrong: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        messages.read_request(messages.write(wrong))


def test_every_request_can_be_read_again() -> None:
    for request in (
        messages.Hello(3.0),
        messages.Put("a", 1, True, 2.5),
        messages.Begin("a", 9, "writer-1-ab", False, None),
        messages.Part(4),
        messages.Renew(["a", "b"]),
        messages.Lease("a", None),
    ):
        assert messages.read_request(messages.write(request)) == request


# Chunks


@given(st.lists(st.integers(0, 200_000), max_size=8), st.integers(4_096, 300_000))
def test_chunks_hold_all_bytes_in_order(sizes: list[int], chunk: int) -> None:
    flat = [os.urandom(size) for size in sizes if size]
    chunks = list(cut(flat, chunk))
    assert b"".join(piece for pieces in chunks for piece in pieces) == b"".join(flat)
    lengths = [sum(map(len, pieces)) for pieces in chunks]
    assert all(length == chunk for length in lengths[:-1])
    assert all(0 < length <= chunk for length in lengths[-1:])


def test_large_pieces_are_sent_where_they_lie() -> None:
    large = bytearray(3_000_000)
    (first, *_), *_ = cut([b"head", memoryview(large)], 1 << 20)
    assert first == b"head"
    for pieces in cut([memoryview(large)], 1 << 20):
        assert all(isinstance(piece, memoryview) and piece.obj is large for piece in pieces)


# Addresses, keys, specifications


def test_addresses() -> None:
    assert listening_address("127.0.0.9") == "127.0.0.9"
    assert listening_address("lo") == "127.0.0.1"
    assert listening_address("127.0.0.0/8") == "127.0.0.1"
    assert listening_address("localhost") in ("127.0.0.1", "::1")
    assert listening_address("")
    for wrong in ("127.0.0.0/99", "198.51.100.0/24", "no-such.invalid"):
        with pytest.raises(SpecError, match="address"):
            listening_address(wrong)
    assert tcp("::1", 5) == "tcp://[::1]:5"
    assert is_loopback("127.3.2.1")
    assert not is_loopback("node7")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../x"),
        ("name", ""),
        ("port", 70_000),
        ("chunk_bytes", 100),
        ("chunk_bytes", 1 << 30),
        ("max_bytes", -1),
        ("linger", -1.0),
        ("timeout", 0.0),
        ("timeout", 1e7),
        ("timeout", float("inf")),
    ],
)
def test_a_specification_that_cannot_work_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=field):
        check(ZmqSpec(**{field: value}))


def test_a_secret_never_stands_in_a_specification() -> None:
    with pytest.raises(SpecError, match="env:NAME or file:PATH") as refused:
        ZmqConnector(key="5a" * 32)
    assert "5a5a" not in str(refused.value)


def test_the_users_own_key_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_CONFIG_DIR", str(tmp_path / "settings"))
    with pytest.raises(MissingSecretError, match=r"settings/zmq\.key is not there; copy"):
        Credentials("").find("00" * 8, lambda: "an object")
    curve = Credentials("").for_server()
    path = tmp_path / "settings" / "zmq.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Credentials("").for_server() == curve
    assert Credentials("").find(curve.key_id, lambda: "") == curve
    assert os.listdir(path.parent) == ["zmq.key"]
    assert curve.server_secret not in repr(curve).encode()
    path.unlink()
    path.mkdir()
    with pytest.raises(SpecError, match="cannot be read"):
        Credentials("").for_server()


def test_a_path_that_no_socket_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_ZMQ_DIR", str(tmp_path / ("x" * 90)))
    with pytest.raises(BrokenError, match="ISTHMUS_ZMQ_DIR"):
        ZmqConnector()
    (tmp_path / "file").touch()
    monkeypatch.setenv("ISTHMUS_ZMQ_DIR", str(tmp_path / "file"))
    with pytest.raises(BrokenError, match="file"):
        ZmqConnector()
