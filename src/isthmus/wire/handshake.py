"""The first words on a connection: which protocol and versions, who is there, and proof of a shared token.

::

    client                         server
    hello(versions, nonce, …)  →
                               ←   hello(versions, nonce, …)
    proof                      →
                               ←   proof                          both are agreed

A message is ``"ISTH" | kind u8 | 0 | length u16 | body``; its form and the start of a hello stay as they
are in every version, so that two sides can always tell each other which versions they speak.

A proof is an HMAC, keyed by the token, of the sender's side and of all that was said before: both hellos
with their nonces, and what binds it to the TLS connection beneath, if there is one. So a proof is no good
in another connection, nor for the other side, nor after any byte of a hello was changed (other versions,
no token); and the token itself is never sent. The client goes first: who merely connects to a server gets
nothing to guess tokens with. Without TLS this proves who is there at the start, and protects nothing that
follows.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from isthmus.errors import (
    AuthenticationError,
    BrokenError,
    LocalProtocolError,
    RemoteProtocolError,
    VersionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["VERSION", "Agreed", "Event", "Handshake", "Met", "Offer", "Peer"]

VERSION = 1
"""Of what follows the handshake: frames, and the kinds of frames that a connection keeps to itself."""

MAGIC = b"ISTH"
MAX_BODY = 1024
NONCE_BYTES = 32
MIN_TOKEN_BYTES = 16
MAX_NAME_BYTES = 255

_HELLO, _PROOF, _REFUSAL = 1, 2, 3
_head = Struct("<4sBxH")
_hello = Struct(
    "<BBBBBxxxIQ32s"
)  # first, last, has a token, role's length, identity's, beat, features, nonce
_DOMAIN = b"isthmus handshake 1\0"

Token: TypeAlias = "bytes | Callable[[str, str], bytes | None] | None"


@dataclass(frozen=True)
class Offer:
    """What one side says of itself.

    Args:
        role: what it is there for, a word of the protocol above ("endpoint", "relay", "agent").
        identity: its name; believed only as far as its token, or its certificate, is its own.
        token: a secret of at least 16 random bytes that both sides have; None for neither. A server may
            give a function that returns the token of a peer by its role and identity, None for no such.
        versions: the first and the last version of the protocol above that it speaks.
        features: a bit for each thing that it can do; both learn what both can.
        beat: seconds; it promises to send something at least that often. 0: no such promise.

    Raises:
        LocalProtocolError: a name is longer than 255 bytes, a token too short, the versions are not such.
    """

    role: str = ""
    identity: str = ""
    token: Token = field(default=None, repr=False)
    versions: tuple[int, int] = (VERSION, VERSION)
    features: int = 0
    beat: float = 0.0

    def __post_init__(self) -> None:
        for name in (self.role, self.identity):
            if len(name.encode()) > MAX_NAME_BYTES:
                raise LocalProtocolError(
                    "cannot offer a name", f"{name[:40]!r}… has over {MAX_NAME_BYTES} bytes"
                )
        if isinstance(self.token, bytes) and len(self.token) < MIN_TOKEN_BYTES:
            raise LocalProtocolError(
                "cannot use this token",
                f"it has {len(self.token)} bytes, under {MIN_TOKEN_BYTES}; "
                "make one with secrets.token_bytes(32)",
            )
        first, last = self.versions
        if not (0 <= first <= last <= 255 and 0 <= self.features < 1 << 64 and self.beat >= 0):
            raise LocalProtocolError(
                "cannot offer", f"versions {self.versions}, {self.features:#x}"
            )


class Peer(NamedTuple):
    """What the other side said of itself."""

    role: str
    identity: str
    versions: tuple[int, int]
    features: int
    beat: float
    has_token: bool


class Met(NamedTuple):
    """The other side has introduced itself; nothing is proven yet."""

    peer: Peer


class Agreed(NamedTuple):
    """The handshake is done.

    Attributes:
        peer: the other side.
        version: the highest that both speak.
        features: those of both.
        proven: whether both have shown that they have the token.
        rest: bytes that came after the handshake.
    """

    peer: Peer
    version: int
    features: int
    proven: bool
    rest: bytes


Event: TypeAlias = "Met | Agreed"


class Handshake:
    """One side of a handshake.

    Whatever `receive` does, raising included, `send` then returns what is to be sent: after an error it is
    what lets the other side say what was wrong.

    Args:
        offer: what this side says of itself.
        client: whether this side opened the connection.
        binding: what both sides know of the secure channel beneath (its certificates); empty for none.
        nonce: 32 bytes never used before; None draws them.
    """

    def __init__(
        self, offer: Offer, *, client: bool, binding: bytes = b"", nonce: bytes | None = None
    ) -> None:
        self.offer: Final = offer
        self.client: Final = client
        self._binding = binding
        self._nonce = secrets.token_bytes(NONCE_BYTES) if nonce is None else nonce
        if len(self._nonce) != NONCE_BYTES:
            raise LocalProtocolError("cannot use this nonce", f"it must have {NONCE_BYTES} bytes")
        self._hello = self._make_hello()
        self._theirs = b""
        self._token: bytes | None = None
        self._in = bytearray()
        self._out = bytearray(self._hello if client else b"")
        self._peer: Peer | None = None
        self._over = False

    def send(self) -> bytes:
        """Return the bytes to send now, once."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def receive(self, data: bytes) -> list[Event]:
        """Take in bytes as they came, in any pieces.

        Raises:
            RemoteProtocolError: the peer does not speak this protocol, or breaks it.
            VersionError: there is no version that both speak.
            AuthenticationError: one side has no token, or the wrong one, or somebody is in between.
            LocalProtocolError: the handshake is over.
        """
        if self._over:
            raise LocalProtocolError("cannot go on with a handshake", "it is over")
        self._in += data
        events: list[Event] = []
        try:
            while (message := self._next()) is not None:
                self._take(*message, events)
        except Exception:
            self._over = True
            raise
        return events

    def refuse(self, why: str) -> None:
        """Tell the peer, in a word ("busy"), that it is not wanted now; `send` then returns that."""
        self._over = True
        self._out += _message(_REFUSAL, why.encode()[:MAX_BODY])

    def _next(self) -> tuple[int, bytes] | None:
        """Return the next message and its kind, None if there is none or nobody waits for it."""
        data = self._in
        if self._over:
            return None
        if data[:4] != MAGIC[: len(data)]:
            raise RemoteProtocolError(
                "the peer does not speak isthmus",
                f"it starts with {bytes(data[:24])!r}; see that address and port are right, and TLS on "
                "both sides or on none",
            )
        if len(data) < _head.size:
            return None
        _, kind, length = _head.unpack_from(data)
        if length > MAX_BODY:
            raise RemoteProtocolError("the peer's introduction is too long", f"{length} bytes")
        end = _head.size + length
        if len(data) < end:
            return None
        whole = bytes(data[:end])
        del data[:end]
        return kind, whole

    def _take(self, kind: int, message: bytes, events: list[Event]) -> None:
        body = message[_head.size :]
        if kind == _REFUSAL:
            raise _told(self._name(), body)
        if kind == _HELLO and self._peer is None:
            self._peer = _read_hello(body)
            self._theirs = message
            events.append(Met(self._peer))
            if not self.client:
                self._out += self._hello
            self._check(self._peer)
            if self.client:
                self._out += _message(_PROOF, self._proof(client=True))
        elif kind == _PROOF and self._peer is not None:
            # Both are checked alike; the lengths differ only where somebody tampers.
            if not hmac.compare_digest(body, self._proof(client=not self.client)):
                self.refuse("proof")
                raise AuthenticationError(self._name(), f"its proof is wrong: {_SUSPECT}")
            if not self.client:
                self._out += _message(_PROOF, self._proof(client=False))
            self._finish(self._peer, events)
        else:
            raise RemoteProtocolError(
                "the peer breaks the handshake", f"message {kind} at the wrong time"
            )

    def _check(self, peer: Peer) -> None:
        """Find out early what cannot work, where both sides can still be told why."""
        (first, last), (theirs_first, theirs_last) = self.offer.versions, peer.versions
        if min(last, theirs_last) < max(first, theirs_first):
            raise VersionError(self._name(), self.offer.versions, peer.versions)
        has_token = self.offer.token is not None
        if peer.has_token and not has_token:
            raise AuthenticationError(
                self._name(), "it asks for a token and this side has none; give it the same token"
            )
        if has_token and not peer.has_token:
            raise AuthenticationError(
                self._name(),
                "it has no token, so it cannot prove that it is the right one; give it the same token",
            )
        if _nonce(self._theirs) == self._nonce:
            raise AuthenticationError(self._name(), "it only repeats what this side says")
        if callable(self.offer.token):
            # For an unknown peer the proof fails like a wrong one: it need not learn which names exist.
            token = self.offer.token(peer.role, peer.identity)
            self._token = token if token is not None else secrets.token_bytes(32)
        else:
            self._token = self.offer.token

    def _proof(self, *, client: bool) -> bytes:
        if self._token is None:
            return b""
        ours, theirs = self._hello, self._theirs
        said = hashlib.sha256()
        for part in (self._binding, *((ours, theirs) if self.client else (theirs, ours))):
            said.update(len(part).to_bytes(8, "little") + part)
        side = b"client\0" if client else b"server\0"
        return hmac.digest(self._token, _DOMAIN + side + said.digest(), "sha256")

    def _finish(self, peer: Peer, events: list[Event]) -> None:
        self._over = True
        version = min(self.offer.versions[1], peer.versions[1])
        features = self.offer.features & peer.features
        rest = bytes(self._in)
        self._in.clear()
        events.append(Agreed(peer, version, features, self._token is not None, rest))

    def _make_hello(self) -> bytes:
        offer = self.offer
        role, identity = offer.role.encode(), offer.identity.encode()
        body = _hello.pack(
            *offer.versions,
            offer.token is not None,
            len(role),
            len(identity),
            round(offer.beat * 1000),
            offer.features,
            self._nonce,
        )
        return _message(_HELLO, body + role + identity)

    def _name(self) -> str:
        side = "server" if self.client else "client"
        peer = self._peer
        return f"{side} {peer.role} {peer.identity!r}" if peer and peer.identity else f"the {side}"


_SUSPECT = "the tokens differ, or somebody in between (a proxy that ends TLS?) changed something"


def _told(peer: str, why: bytes) -> Exception:
    # Only words of ours: what an unproven peer writes does not belong into a log.
    if why == b"proof":
        return AuthenticationError(peer, f"it does not accept the proof: {_SUSPECT}")
    if why == b"busy":
        return BrokenError(peer, "it is busy with others; try again later")
    return BrokenError(peer, "it refuses this side")


def _nonce(hello: bytes) -> bytes:
    end = _head.size + _hello.size
    return hello[end - NONCE_BYTES : end]


def _message(kind: int, body: bytes) -> bytes:
    return _head.pack(MAGIC, kind, len(body)) + body


def _read_hello(body: bytes) -> Peer:
    """Return what a hello says; what a later version adds behind it is passed over."""
    if len(body) < _hello.size:
        raise RemoteProtocolError("the peer's introduction is too short", f"{len(body)} bytes")
    try:
        first, last, token, n, m, beat, features, _ = _hello.unpack_from(body)
        role, identity = body[_hello.size :][:n], body[_hello.size + n :][:m]
        if len(role) != n or len(identity) != m:
            raise ValueError("its names are cut short")
        return Peer(
            role.decode(), identity.decode(), (first, last), features, beat / 1000, bool(token)
        )
    except ValueError as error:
        raise RemoteProtocolError("the peer's introduction is damaged", str(error)) from None
