"""The form of an encrypted object: a header, then chunks that only stand in their own place.

::

    magic 4 | key id 8 | object id 12 | salt 24 | chunk | chunk | ... | last chunk
                                                  each: up to 256 KiB of ciphertext, then a tag of 16 bytes

Every object is encrypted under a key of its own, HKDF-SHA256 of the secret key, the salt and the whole
header. So a nonce need not be random: it is the chunk's number and whether it is the last one. A chunk that
is moved, repeated, left out, or brought from another object fails its tag, and so does the end of an object
that was cut (the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, 2015). There is always a last
chunk, if an empty one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from isthmus.connectors.keyring import KEY_ID_BYTES
from isthmus.errors import TamperedError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isthmus.connectors.keyring import Keyring, SecretKey
    from isthmus.connectors.protocol import Buffer

__all__ = [
    "CHUNK_BYTES",
    "HEADER_BYTES",
    "OBJECT_ID_BYTES",
    "Sealed",
    "object_id_of",
    "seal",
    "size_of",
]

CHUNK_BYTES = 1 << 18  # fits the second-level cache; larger ones are slower to encrypt
OBJECT_ID_BYTES = 12
TAG_BYTES = 16
_MAGIC = b"IsE\x01"  # the last byte is the version: AES-256-GCM, HKDF-SHA256, chunks of 256 KiB
_SALT_BYTES = 24
_KEY_AT = len(_MAGIC)
_OBJECT_AT = _KEY_AT + KEY_ID_BYTES
_SALT_AT = _OBJECT_AT + OBJECT_ID_BYTES
HEADER_BYTES = _SALT_AT + _SALT_BYTES
_SEALED_BYTES = CHUNK_BYTES + TAG_BYTES


def seal(flat: list[bytes | memoryview], key: SecretKey, object_id: bytes) -> list[bytes]:
    """Return an object's encrypted form as pieces, from its pieces.

    A chunk within one piece is encrypted from there; only one that spans several is joined first.
    """
    # Fresh even for an object id that is known before: two may race to store under a reserved key.
    header = _MAGIC + key.id + object_id + os.urandom(_SALT_BYTES)
    cipher = _cipher(key, header)
    sealed = [header]
    chunk: bytes | memoryview = b""
    number = 0
    for following in _chunks(flat):
        if number:
            sealed.append(cipher.encrypt(_nonce(number - 1, last=False), chunk, None))
        chunk = following
        number += 1
    sealed.append(cipher.encrypt(_nonce(max(number - 1, 0), last=True), chunk, None))
    return sealed


def size_of(stored: int) -> int:
    """Return the size of an object from that of its encrypted form; negative if that is none."""
    count, last = _layout(stored)
    return (count - 1) * CHUNK_BYTES + last - TAG_BYTES


def object_id_of(header: Buffer) -> bytes | None:
    """Return the object id from the first bytes of an encrypted form, None if they are no such thing."""
    if len(header) < HEADER_BYTES or bytes(header[:_KEY_AT]) != _MAGIC:
        return None
    return bytes(header[_OBJECT_AT:_SALT_AT])


class Sealed:
    """An encrypted object, to be read in whole or in part.

    Args:
        stored: bytes of the encrypted form.
        fetch: returns a part of it, by offset and size.
        object_id: the one that it must have.
        keyring: has the key.
        name: returns what to call the object in errors.

    Raises:
        MissingSecretError: its key is not here.
        TamperedError: it is not the object that it should be.
    """

    def __init__(
        self,
        stored: int,
        fetch: Callable[[int, int], Buffer],
        object_id: bytes,
        keyring: Keyring,
        name: Callable[[], str],
    ) -> None:
        self._name = name
        self._fetch = fetch
        self._stored = stored
        header = bytes(fetch(0, HEADER_BYTES))
        found = object_id_of(header)
        if found is None:
            raise TamperedError(name(), "it does not begin as an encrypted object does")
        if found != object_id:
            raise TamperedError(name(), "another object lies in its place")
        self._count, last = _layout(stored)
        self.size = size_of(stored)
        """Bytes of the object itself."""
        if last < TAG_BYTES or (last == TAG_BYTES and self._count > 1):
            raise TamperedError(name(), f"{stored} bytes are not its whole length")
        self._cipher = _cipher(keyring.find(header[_KEY_AT:_OBJECT_AT], name), header)
        self._invalid = require("cryptography.exceptions", **_WHAT).InvalidTag

    def read(self, offset: int, size: int) -> bytearray:
        """Return up to `size` bytes of the object from `offset`, fewer at the end.

        An answer that is shorter than asked for proves the end: the last chunk is checked.

        Raises:
            TamperedError: a chunk fails its authentication.
        """
        stop = min(offset + size, self.size)
        out = bytearray(max(0, stop - offset))
        view = memoryview(out)
        first = min(offset // CHUNK_BYTES, self._count - 1)
        end = self._count if offset + size >= self.size else (stop - 1) // CHUNK_BYTES + 1
        for number in range(first, end):
            begin = number * CHUNK_BYTES
            until = min(begin + CHUNK_BYTES, self.size)
            if offset <= begin and until <= stop:
                self._decrypt(number, view[begin - offset : until - offset])
            else:
                whole = bytearray(until - begin)
                self._decrypt(number, memoryview(whole))
                part = whole[max(0, offset - begin) : max(0, stop - begin)]
                at = max(0, begin - offset)
                view[at : at + len(part)] = part
        return out

    def _decrypt(self, number: int, into: memoryview) -> None:
        last = number == self._count - 1
        at = HEADER_BYTES + number * _SEALED_BYTES
        chunk = self._fetch(at, min(_SEALED_BYTES, self._stored - at))
        try:
            if len(chunk) != len(into) + TAG_BYTES:
                raise self._invalid
            self._cipher.decrypt_into(_nonce(number, last=last), chunk, None, into)
        except self._invalid:
            raise TamperedError(self._name(), f"chunk {number + 1} of {self._count}") from None


_WHAT = {"extra": "encrypted", "what": "the encrypted connector"}


def _cipher(key: SecretKey, header: bytes) -> Any:
    hashes = require("cryptography.hazmat.primitives.hashes", **_WHAT)
    hkdf = require("cryptography.hazmat.primitives.kdf.hkdf", **_WHAT)
    aead = require("cryptography.hazmat.primitives.ciphers.aead", **_WHAT)
    derive = hkdf.HKDF(hashes.SHA256(), 32, salt=header[_SALT_AT:], info=header).derive
    return aead.AESGCM(derive(key.secret))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _layout(stored: int) -> tuple[int, int]:
    """Return the number of chunks, and the sealed size of the last."""
    body = stored - HEADER_BYTES
    count = max(1, -(-body // _SEALED_BYTES))
    return count, body - (count - 1) * _SEALED_BYTES


def _chunks(flat: list[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """Yield chunks of the full size, and the rest."""
    begun: list[bytes | memoryview] = []
    room = CHUNK_BYTES
    for piece in flat:
        view = memoryview(piece)
        while len(view):
            part, view = view[:room], view[room:]
            begun.append(part)
            room -= len(part)
            if not room:
                yield begun[0] if len(begun) == 1 else b"".join(begun)
                begun, room = [], CHUNK_BYTES
    if begun:
        yield begun[0] if len(begun) == 1 else b"".join(begun)
