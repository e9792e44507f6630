"""Encryption over any connector: what lies in the channel is of use only to who has the key."""

from __future__ import annotations

import base64
import binascii
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from isthmus.connectors import (
    LeasingConnector,
    ListableConnector,
    ObjectInfo,
    RangeConnector,
    ReservingConnector,
    WaitingConnector,
)
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.keyring import Keyring
from isthmus.connectors.nested import Nested, NestedSpec
from isthmus.connectors.payload import pieces
from isthmus.connectors.sealing import (
    HEADER_BYTES,
    OBJECT_ID_BYTES,
    Sealed,
    object_id_of,
    seal,
    size_of,
)
from isthmus.errors import KeyTypeError
from isthmus.spec import Spec, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.connectors import Buffer, Connector, Payload

__all__ = ["EncryptedConnector", "EncryptedKey", "EncryptedSpec"]


class EncryptedSpec(Spec):
    """What an `EncryptedConnector` encrypts, and where its keys are."""

    inner: NestedSpec
    """The connector that stores the encrypted objects."""
    keys: tuple[str, ...]
    """References to secret keys, newest first: ``env:NAME`` or ``file:PATH``."""


class EncryptedKey(NamedTuple):
    """An encrypted object; the secret key is no part of it."""

    object: str
    """Random, in URL-safe base 64; bound to the object's bytes, whatever its channel does with them."""
    key: str
    """The object's key in the inner connector, as a JSON array."""


class EncryptedConnector(ConnectorHandle[EncryptedKey]):
    """Encrypts with AES-256-GCM what another connector stores, and authenticates what it returns.

    Only a process that finds the secret key where the references say can `put` or `get`; any process can
    pass keys and proxies on, ask whether an object exists, and evict it. The channel learns an object's
    size, and when it is used. Reserving, waiting, leases, ranges and listing work where the inner
    connector can do them; else they raise ``CapabilityError``. Closing it closes the inner one.

    Args:
        inner: the connector that stores the encrypted objects, or its specification.
        keys: references to secret keys, each 64 hex digits: ``env:NAME`` for an environment variable,
            ``file:PATH`` for a file. The first encrypts, all decrypt. A reference may hold several keys,
            newest first, with white space between; a process that meets an unknown key looks again.

    Raises:
        SpecError: a reference is of no such form.
        MissingExtraError: the package `cryptography` is not installed.
    """

    kind = "encrypted"
    spec_type = EncryptedSpec
    key_type = EncryptedKey

    def __init__(self, inner: Connector[Any] | NestedSpec, keys: Sequence[str]) -> None:
        self._keyring = Keyring(keys)
        require("cryptography", extra="encrypted", what="the encrypted connector")
        self._inner = Nested(inner)
        super().__init__(EncryptedSpec(self._inner.spec, self._keyring.references))

    @property
    def takes_type(self) -> bool:
        """Whether the inner connector wants to know the class of what it stores."""
        return bool(getattr(self._inner.open(), "takes_type", False))

    def put(
        self, obj: Payload, *, lease: float | None = None, held: bool = False, **options: Any
    ) -> EncryptedKey:
        """Encrypt an object and store it.

        Args:
            obj: the object's bytes.
            lease: see `lease`.
            held: see `lease`.
            **options: handed to the inner connector's ``put``.

        Raises:
            MissingSecretError: the newest key is not here.
        """
        self._check()
        options |= self._inner.lease(lease, held)
        object_id = os.urandom(OBJECT_ID_BYTES)
        return self._key(object_id, self._inner.open().put(self._seal(obj, object_id), **options))

    def put_batch(
        self,
        objs: Sequence[Payload],
        *,
        lease: float | None = None,
        held: bool = False,
        **options: Any,
    ) -> list[EncryptedKey]:
        """Encrypt several objects and store them in one operation."""
        self._check()
        options |= self._inner.lease(lease, held)
        ids = [os.urandom(OBJECT_ID_BYTES) for _ in objs]
        sealed = [self._seal(obj, object_id) for obj, object_id in zip(objs, ids, strict=True)]
        return [
            self._key(object_id, key)
            for object_id, key in zip(
                ids, self._inner.open().put_batch(sealed, **options), strict=True
            )
        ]

    def get(self, key: EncryptedKey) -> Buffer | None:
        """Return an object, decrypted into memory of its own.

        Raises:
            MissingSecretError: its key is not here; says which one, and where it looked.
            TamperedError: the channel returned something else than what was put.
        """
        object_id, own = self._find(key)
        return self._unseal(key, object_id, self._inner.open().get(own))

    def get_batch(self, keys: Sequence[EncryptedKey]) -> list[Buffer | None]:
        """Return the objects under several keys."""
        self._check()
        found = [self._find(key) for key in keys]
        datas = self._inner.open().get_batch([own for _, own in found])
        return [
            self._unseal(key, object_id, data)
            for key, (object_id, _), data in zip(keys, found, datas, strict=True)
        ]

    def exists(self, key: EncryptedKey) -> bool:
        """Return whether an object lies under `key`; needs no secret."""
        return self._inner.open().exists(self._find(key)[1])

    def evict(self, key: EncryptedKey) -> None:
        """Delete an object; needs no secret."""
        self._inner.open().evict(self._find(key)[1])

    def reserve(self, **options: Any) -> EncryptedKey:
        """Return a fresh key under which nothing lies yet; needs no secret."""
        self._check()
        own: Any = self._inner.able(ReservingConnector).reserve(**options)
        return self._key(os.urandom(OBJECT_ID_BYTES), own)

    def put_at(
        self, key: EncryptedKey, obj: Payload, *, lease: float | None = None, held: bool = False
    ) -> bool:
        """Encrypt an object and store it under a reserved key if none lies there."""
        object_id, own = self._find(key)
        options = self._inner.lease(lease, held)
        inner: Any = self._inner.able(ReservingConnector)
        return bool(inner.put_at(own, self._seal(obj, object_id), **options))

    def lease(self, key: EncryptedKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now unless its lease is renewed by then; needs no secret."""
        own = self._find(key)[1]
        return self._inner.able(LeasingConnector).lease(own, seconds, held=held)

    def renew(self, keys: Sequence[EncryptedKey]) -> _Answers:
        """Begin the period of each object's lease anew; needs no secret."""
        self._check()
        return self._inner.able(LeasingConnector).renew([self._find(key)[1] for key in keys])

    def wait(self, key: EncryptedKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`, as the inner connector does."""
        return self._inner.able(WaitingConnector).wait(self._find(key)[1], timeout)

    def get_range(self, key: EncryptedKey, offset: int, size: int) -> Buffer | None:
        """Return a part of the object; only the chunks that have it are read and decrypted."""
        object_id, own = self._find(key)
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        ranges: RangeConnector[Any] = self._inner.able(RangeConnector)
        info = self._inner.able(ListableConnector).stat(own)
        if info is None:
            return None

        def fetch(offset: int, size: int) -> Buffer:
            part = ranges.get_range(own, offset, size)
            if part is None:
                raise _EvictedError
            return part

        try:
            name = partial(self._name, key)
            return Sealed(info.size, fetch, object_id, self._keyring, name).read(offset, size)
        except _EvictedError:
            return None

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object; reads the first bytes of each. Whatever else lies there is left out."""
        self._check()
        ranges: RangeConnector[Any] = self._inner.able(RangeConnector)
        for info in self._inner.able(ListableConnector).list():
            header = ranges.get_range(info.key, 0, HEADER_BYTES)
            object_id = None if header is None else object_id_of(header)
            if object_id is not None:
                key = self._key(object_id, info.key)
                yield info._replace(key=key, size=size_of(info.size))

    def stat(self, key: EncryptedKey) -> ObjectInfo | None:
        """Return what is known of one object; its size is that of the object in the clear."""
        info = self._inner.able(ListableConnector).stat(self._find(key)[1])
        return None if info is None else info._replace(key=key, size=size_of(info.size))

    def clear(self) -> int:
        """Delete every object of the inner connector."""
        self._check()
        return self._inner.able(ListableConnector).clear()

    def sweep(self) -> int:
        """Delete what is overdue and what killed processes left unfinished in the inner connector."""
        self._check()
        return self._inner.able(ListableConnector).sweep()

    def _seal(self, obj: Payload, object_id: bytes) -> Sequence[bytes]:
        return seal(pieces(obj), self._keyring.newest(), object_id)

    def _unseal(self, key: EncryptedKey, object_id: bytes, data: Buffer | None) -> Buffer | None:
        if data is None:
            return None
        view = memoryview(data)
        sealed = Sealed(
            len(view),
            lambda offset, size: view[offset : offset + size],
            object_id,
            self._keyring,
            partial(self._name, key),
        )
        return sealed.read(0, sealed.size)

    def _name(self, key: EncryptedKey) -> str:
        return f"object {key.object} of {self!r}"

    def _key(self, object_id: bytes, own: tuple[Any, ...]) -> EncryptedKey:
        return EncryptedKey(base64.urlsafe_b64encode(object_id).decode(), Nested.pack_key(own))

    def _find(self, key: EncryptedKey) -> tuple[bytes, Any]:
        self._check(key)
        try:
            object_id = base64.b64decode(key.object, b"-_", validate=True)
        except (binascii.Error, ValueError, TypeError):
            object_id = b""
        if len(object_id) != OBJECT_ID_BYTES:
            raise KeyTypeError(type(self).__name__, "EncryptedKey from put() or reserve()", key)
        return object_id, self._inner.unpack_key(key.key, key)

    def _release(self) -> None:
        self._inner.close()


class _EvictedError(Exception):
    """The object went away between two reads of its parts."""


# Named out here: inside the class, `list` is its method.
_Answers: TypeAlias = "list[bool]"
