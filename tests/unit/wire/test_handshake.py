"""The handshake among honest sides, and with somebody in between who is not."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.errors import (
    AuthenticationError,
    BrokenError,
    LocalProtocolError,
    RemoteProtocolError,
    VersionError,
)
from isthmus.wire.handshake import MAX_BODY, Agreed, Handshake, Met, Offer

TOKEN = b"a token of at least sixteen bytes"


def pair(client: Offer, server: Offer, **how: bytes) -> tuple[Handshake, Handshake]:
    return Handshake(client, client=True, **how), Handshake(server, client=False, **how)


def agree(client: Handshake, server: Handshake, step: int = 1 << 20) -> tuple[Agreed, Agreed]:
    """Carry bytes to and fro, `step` at a time, until both sides agreed."""
    agreed: dict[bool, Agreed] = {}
    while len(agreed) < 2:
        moved = 0
        for one, other in ((client, server), (server, client)):
            data = one.send()
            moved += len(data)
            for i in range(0, len(data), step):
                for event in other.receive(data[i : i + step]):
                    if isinstance(event, Agreed):
                        agreed[other.client] = event
        assert moved, "nobody has anything to say"
    return agreed[True], agreed[False]


@pytest.mark.parametrize("token", [None, TOKEN])
@given(step=st.integers(1, 200))
def test_both_sides_agree_however_the_bytes_are_cut(token: bytes | None, step: int) -> None:
    client = Offer("agent", "ann", token, (1, 4), 0b0110, 2.5)
    server = Offer("relay", "räl", token, (2, 3), 0b0011)
    ours, theirs = agree(*pair(client, server), step)
    assert (ours.version, ours.features, ours.proven) == (3, 0b0010, token is not None)
    assert ours.peer[:4] == ("relay", "räl", (2, 3), 0b0011)
    assert theirs.peer == ("agent", "ann", (1, 4), 0b0110, 2.5, token is not None)
    assert theirs.version == 3


def test_what_follows_the_handshake_is_handed_on() -> None:
    client, server = pair(Offer(), Offer())
    (met,) = server.receive(client.send())
    assert isinstance(met, Met)
    client.receive(server.send())
    (agreed,) = server.receive(client.send() + b"frames")
    assert agreed.rest == b"frames"
    (agreed,) = client.receive(server.send() + b"more")
    assert agreed.rest == b"more"
    with pytest.raises(LocalProtocolError, match="it is over"):
        client.receive(b"")


def test_the_token_is_never_sent_nor_shown() -> None:
    client, server = pair(Offer(token=TOKEN), Offer(token=TOKEN))
    said = b""
    for one, other in ((client, server), (server, client)) * 2:
        data = one.send()
        said += data
        other.receive(data)
    assert TOKEN not in said
    assert TOKEN.decode() not in repr(Offer(token=TOKEN))


@pytest.mark.parametrize(
    ("ours", "theirs", "older"),
    [((1, 2), (3, 4), "this side"), ((5, 6), (3, 4), "the other side")],
)
def test_no_common_version_tells_both_which_side_to_upgrade(ours, theirs, older) -> None:
    client, server = pair(Offer(versions=ours), Offer(versions=theirs))
    with pytest.raises(VersionError) as found:
        server.receive(client.send())
    assert found.value.args[1:] == (theirs, ours)
    with pytest.raises(VersionError, match=f"upgrade isthmus on {older}") as found:
        client.receive(server.send())
    assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)


@pytest.mark.parametrize("has", ["client", "server"])
def test_a_side_without_a_token_is_told_so_and_so_is_the_other(has: str) -> None:
    client, server = pair(
        Offer(token=TOKEN if has == "client" else None),
        Offer(token=TOKEN if has == "server" else None),
    )
    with pytest.raises(AuthenticationError) as at_server:
        server.receive(client.send())
    with pytest.raises(AuthenticationError) as at_client:
        client.receive(server.send())
    texts = [str(at_client.value), str(at_server.value)]
    lacking, having = texts if has == "server" else texts[::-1]
    assert "asks for a token and this side has none" in lacking
    assert "it has no token" in having
    assert isinstance(at_client.value, PermissionError)
    assert client.send() == b""


def test_the_wrong_token_is_an_error_at_both_sides() -> None:
    client, server = pair(Offer("agent", "eve", b"x" * 16), Offer(token=TOKEN))
    server.receive(client.send())
    client.receive(server.send())
    with pytest.raises(AuthenticationError, match="client agent 'eve': its proof is wrong"):
        server.receive(client.send())
    with pytest.raises(AuthenticationError, match="does not accept the proof"):
        client.receive(server.send())


def test_a_server_may_have_a_token_for_each_peer() -> None:
    tokens = {("agent", "ann"): TOKEN}
    server = Offer(token=lambda role, identity: tokens.get((role, identity)))
    _, theirs = agree(*pair(Offer("agent", "ann", TOKEN), server))
    assert theirs.proven
    client, one = pair(Offer("agent", "bob", TOKEN), server)
    with pytest.raises(AuthenticationError, match="proof is wrong"):
        agree(client, one)


# Attackers


def test_a_replayed_client_is_refused() -> None:
    client, server = pair(Offer(token=TOKEN), Offer(token=TOKEN))
    hello = client.send()
    server.receive(hello)
    client.receive(server.send())
    proof = client.send()
    server.receive(proof)
    again = Handshake(Offer(token=TOKEN), client=False)
    again.receive(hello)
    with pytest.raises(AuthenticationError):
        again.receive(proof)


def test_a_replayed_server_is_refused() -> None:
    client, server = pair(Offer(token=TOKEN), Offer(token=TOKEN))
    server.receive(client.send())
    hello = server.send()
    client.receive(hello)
    server.receive(client.send())
    proof = server.send()
    again = Handshake(Offer(token=TOKEN), client=True)
    again.send()
    again.receive(hello)
    with pytest.raises(AuthenticationError):
        again.receive(proof)


def test_reflection_is_refused() -> None:
    client = Handshake(Offer(token=TOKEN), client=True)
    with pytest.raises(AuthenticationError, match="repeats what this side says"):
        client.receive(client.send())
    # With a hello of its own, an attacker gets the client's proof and sends it back.
    client, server = pair(Offer(token=TOKEN), Offer(token=TOKEN))
    server.receive(client.send())
    client.receive(server.send())
    with pytest.raises(AuthenticationError, match="proof is wrong"):
        client.receive(client.send())


@given(st.data())
def test_no_changed_byte_of_a_hello_survives(data: st.DataObject) -> None:
    offer = Offer("agent", "ann", TOKEN, (1, 3), 0xFF)
    client, server = pair(offer, offer)
    at = data.draw(st.integers(0, len(client._hello) - 1))
    to_server = data.draw(st.booleans())
    hello = bytearray(client.send())
    if to_server:
        hello[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        server.receive(bytes(hello))
        answer = bytearray(server.send())
        if not to_server:
            answer[at] ^= 1 << data.draw(st.integers(0, 7))
        client.receive(bytes(answer))
        events = server.receive(client.send())
        events += client.receive(server.send())
    except (AuthenticationError, BrokenError, VersionError):
        return
    # A side that waits for bytes that never come: its time limit ends that.
    assert not any(isinstance(e, Agreed) for e in events)


def test_stripping_the_token_or_the_versions_is_no_downgrade() -> None:
    offer = Offer(token=TOKEN, versions=(1, 3))
    client, server = pair(offer, offer)
    hello = bytearray(client.send())
    hello[8 + 1] = 1  # the last version
    server.receive(bytes(hello))
    client.receive(server.send())
    with pytest.raises(AuthenticationError, match="proof is wrong"):
        server.receive(client.send())
    client, server = pair(offer, offer)
    hello = bytearray(client.send())
    hello[8 + 2] = 0  # has a token
    with pytest.raises(AuthenticationError, match="it has no token"):
        server.receive(bytes(hello))


def test_somebody_who_ends_tls_in_between_is_noticed() -> None:
    client = Handshake(Offer(token=TOKEN), client=True, binding=b"certificate of the attacker")
    server = Handshake(Offer(token=TOKEN), client=False, binding=b"certificate of the server")
    with pytest.raises(AuthenticationError, match="ends TLS"):
        agree(client, server)


def test_too_much_is_refused_before_it_is_kept() -> None:
    server = Handshake(Offer(), client=False)
    with pytest.raises(RemoteProtocolError, match="too long"):
        server.receive(b"ISTH\x01\x00" + (MAX_BODY + 1).to_bytes(2, "little"))


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x", b"\x16\x03\x01", b"I", b"ISTX"]
)
def test_another_protocol_is_named(first: bytes) -> None:
    server = Handshake(Offer(), client=False)
    if b"ISTH".startswith(first):
        assert server.receive(first) == []
        return
    with pytest.raises(RemoteProtocolError, match="does not speak isthmus"):
        server.receive(first)


@pytest.mark.parametrize(
    "message",
    [
        b"ISTH\x02\x00\x00\x00",  # a proof before a hello
        b"ISTH\x09\x00\x00\x00",
        b"ISTH\x01\x00\x03\x00abc",
        b"ISTH\x01\x00\x34\x00\x01\x01\x00\xff"
        + bytes(48),  # a role of 255 bytes that are not there
    ],
)
def test_broken_messages_are_refused(message: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        Handshake(Offer(), client=False).receive(message)


@given(st.binary(max_size=200))
def test_garbage_never_agrees_and_never_raises_anything_else(garbage: bytes) -> None:
    server = Handshake(Offer(token=TOKEN), client=False)
    try:
        events = server.receive(b"ISTH" + garbage)
    except (BrokenError, AuthenticationError, VersionError):
        return
    assert not any(isinstance(e, Agreed) for e in events)


def test_a_refusal_is_told_in_words_of_ours() -> None:
    client, server = pair(Offer(), Offer())
    server.refuse("busy")
    with pytest.raises(BrokenError, match="try again later"):
        client.receive(server.send())
    client, server = pair(Offer(), Offer())
    server.refuse("\x1b[31mrubbish")
    with pytest.raises(BrokenError, match=r"it refuses this side$"):
        client.receive(server.send())


@pytest.mark.parametrize(
    "wrong",
    [{"token": b"short"}, {"versions": (2, 1)}, {"identity": "x" * 256}, {"features": -1}],
)
def test_an_offer_that_makes_no_sense_is_refused(wrong) -> None:
    with pytest.raises(LocalProtocolError):
        Offer(**wrong)
    with pytest.raises(LocalProtocolError, match="nonce"):
        Handshake(Offer(), client=True, nonce=b"short")
