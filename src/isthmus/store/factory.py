"""What a store's proxy carries: how to find the store, the key, and nothing secret.

On the wire (all of it msgpack, behind one version byte)::

    [store, key, about, made, flags, deserializer, trace, timeout, lease]

``store`` is the :class:`StoreConfig` encoded once per store, ``about`` the strings of the target's
class, ``made`` the Unix second and host of production (for the error when the object is gone), and
``trace`` room for a 25-byte trace context. Of a future's proxy, ``timeout`` says how long it waits, and of
a future ``lease`` for how long its result is kept.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from isthmus.codec import load_callable, pack_callable
from isthmus.errors import CodecError, ElsewhereError, MissingObjectError
from isthmus.proxy import Proxy, TargetClass
from isthmus.store.config import StoreConfig, unpack
from isthmus.store.fetcher import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from isthmus.store.store import Store

__all__ = ["AWAITED", "StoreFactory", "made", "proxy_from_wire", "read_wire", "short"]

T = TypeVar("T")

_HOST = socket.gethostname()[:32]
VERSION = 1
_VERSION_BYTE = bytes([VERSION])
_EVICT = 1
AWAITED = 2
"""Flag of what waits for its object: a future, and its proxies."""


class _Wire(msgspec.Struct, array_like=True, omit_defaults=True, frozen=True):
    store: msgspec.Raw
    key: list[Any]
    about: tuple[str, str, int] | None
    made: tuple[int, str]
    flags: int = 0
    deserializer: str | None = None
    trace: bytes | None = None
    timeout: float | None = None
    lease: float | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Wire)


class StoreFactory(Generic[T]):
    """Fetches one object from its store: the factory inside a store's proxy.

    Args:
        identity: the store's configuration in msgpack; finds or opens the store in any process.
        key: the object's key, a plain tuple until the store is open.
        evict: whether resolving the proxy deletes the stored object.
        deserializer: a deserializer for this object alone, or its packed form, which is unpacked when
            the object is fetched and not where the proxy merely passes by.
        made: Unix time in seconds and host of production.
        timeout: how long the proxy of a future waits, in seconds.
        lease: of what a future will be set to, in seconds.
    """

    __slots__ = (
        "_pending",
        "_store",
        "_wire",
        "deserializer",
        "evict",
        "identity",
        "key",
        "lease",
        "made",
        "timeout",
    )
    _flags = 0

    def __init__(
        self,
        identity: bytes,
        key: tuple[Any, ...],
        *,
        evict: bool = False,
        deserializer: Callable[[Any], T] | str | None = None,
        made: tuple[int, str],
        store: Store | None = None,
        timeout: float | None = None,
        lease: float | None = None,
    ) -> None:
        self.identity = identity
        self.key = key
        self.evict = evict
        self.deserializer = deserializer
        self.made = made
        self.timeout = timeout
        self.lease = lease
        self._store = store
        self._wire: bytes | None = None
        self._pending: tuple[int, Future[T]] | None = None

    @property
    def config(self) -> StoreConfig:
        """The configuration of the object's store."""
        return unpack(self.identity)

    @property
    def store(self) -> Store:
        """The object's store in this process, opened if need be."""
        store = self._store
        if store is None or store.closed:
            from isthmus.store.store import reopen

            store = self._store = reopen(self.identity)
        return store

    def __call__(self) -> T:
        """Return the object.

        Raises:
            MissingObjectError: the store does not hold it (any more).
            ElsewhereError: it lies in the memory of another host.
        """
        pending, self._pending = self._under_way(), None
        return self._fetch() if pending is None else pending.result()

    def resolve_async(self) -> Future[T]:
        """Start fetching in the store's pool of threads; the next call takes the result."""
        pending = self._under_way()
        if pending is None:
            pending = self._start()
            self._pending = os.getpid(), pending
        return pending

    def _start(self) -> Future[T]:
        return self.store._background.run(self._fetch)

    def _under_way(self) -> Future[T] | None:
        """Return the fetch that will end: closing the store cancels some, a fork leaves all behind."""
        if self._pending is None:
            return None
        process, future = self._pending
        return None if future.cancelled() or process != os.getpid() else future

    def _fetch(self) -> T:
        try:
            found = self.store._resolve(self.key, self._own_deserializer(), self.evict)
        except ElsewhereError as error:
            connector, there, here, hint = error.args  # a key knows its host as a number only
            raise ElsewhereError(connector, f"{self.made[1]}, {there}", here, hint) from None
        if found is MISSING:
            raise self._missing()
        return found  # type: ignore[no-any-return]

    def _own_deserializer(self) -> Callable[[Any], T] | None:
        if isinstance(self.deserializer, str):
            self.deserializer = load_callable(self.deserializer)
        return self.deserializer

    def _missing(self) -> MissingObjectError:
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.made[0]))
        return MissingObjectError(self.config.name, tuple(self.key), self.made[1], when)

    def to_wire(self, about: TargetClass | None) -> bytes:
        """Return what travels, at most 250 bytes once pickled for a single connector."""
        packed = self.deserializer
        if callable(packed):
            packed = pack_callable(packed)
        wire = _Wire(
            msgspec.Raw(self.identity),
            list(self.key),
            None if about is None else (about.module, about.qualname, about.shape),
            self.made,
            (_EVICT if self.evict else 0) | self._flags,
            packed,
            timeout=self.timeout,
            lease=self.lease,
        )
        return _VERSION_BYTE + _encoder.encode(wire)

    def __proxy_reduce__(self, about: TargetClass | None) -> tuple[Any, ...]:
        wire = self._wire
        if wire is None:  # a proxy that is sent to many tasks is encoded once
            wire = self._wire = self.to_wire(about)
        return proxy_from_wire, (wire,)

    def __reduce__(self) -> tuple[Any, ...]:
        return factory_from_wire, (self._wire or self.to_wire(None),)

    def __proxy_repr__(self) -> str:
        return f"object {short(self.key)} in store {self.config.name!r}"

    def __repr__(self) -> str:
        return f"<StoreFactory of {self.__proxy_repr__()}>"

    def __dask_tokenize__(self) -> tuple[str, tuple[Any, ...]]:
        return self.config.name, tuple(self.key)


def read_wire(data: bytes) -> tuple[StoreFactory[Any], TargetClass | None]:
    """Return the factory that travelled, and what it knew of the target's class.

    Raises:
        CodecError: the bytes are of another version, or none of ours.
    """
    if not data or data[0] != VERSION:
        raise CodecError(
            f"a proxy of wire version {data[0] if data else 'none'} reached a process that reads "
            f"version {VERSION}; run the same isthmus release on both sides"
        )
    try:
        wire = _decoder.decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise CodecError("not a store's proxy", str(error)) from None
    kind: type[StoreFactory[Any]] = StoreFactory
    if wire.flags & AWAITED:
        from isthmus.store.awaiting import AwaitingFactory

        kind = AwaitingFactory
    factory = kind(
        bytes(wire.store),
        tuple(wire.key),
        evict=bool(wire.flags & _EVICT),
        deserializer=wire.deserializer,
        made=wire.made,
        timeout=wire.timeout,
        lease=wire.lease,
    )
    return factory, None if wire.about is None else TargetClass(*wire.about)


def factory_from_wire(data: bytes) -> StoreFactory[Any]:
    """Rebuild a factory from :meth:`StoreFactory.to_wire`; no I/O.

    Raises:
        CodecError: the bytes are of another version, or none of ours.
    """
    return read_wire(data)[0]


def proxy_from_wire(data: bytes) -> Proxy[Any]:
    """Rebuild a proxy from :meth:`StoreFactory.to_wire`; no I/O.

    Raises:
        CodecError: the bytes are of another version, or none of ours.
    """
    factory, about = read_wire(data)
    proxy = Proxy(factory, about)
    factory._wire = data
    return proxy


def made() -> tuple[int, str]:
    """Return what a factory says of an object that is produced now: Unix second and host."""
    return int(time.time()), _HOST


# The shorter the module's name, the smaller every pickled proxy.
proxy_from_wire.__module__ = factory_from_wire.__module__ = "isthmus.store"


def short(key: tuple[Any, ...]) -> str:
    """Return a key as people read it."""
    return "/".join(str(part) for part in key)
