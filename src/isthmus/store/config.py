"""What another process needs to open the same store."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from isthmus.errors import SpecError
from isthmus.spec import Spec

__all__ = ["DEFAULT_CACHE_BYTES", "DEFAULT_CACHE_SIZE", "LEASE_SECONDS", "StoreConfig", "unpack"]

DEFAULT_CACHE_SIZE = 16
DEFAULT_CACHE_BYTES = 1 << 30
LEASE_SECONDS = 600.0
"""Period of an owned object's lease: what a killed owner leaves behind goes after so many seconds."""


class StoreConfig(Spec):
    """A store's parameters as plain data: TOML, JSON, and the store's part of a proxy.

    Args:
        name: the store's name.
        kind: the connector's kind in the registry of connectors.
        options: the connector's constructor arguments.
        cache_size: objects kept after deserialization.
        cache_bytes: bound on their serialized size together, None for no bound.
        metrics: whether operations are counted and timed.
        serializer: a custom serializer, by importable name or by value; None for the codec.
        deserializer: likewise.
    """

    name: str
    kind: str
    options: dict[str, Any] = {}  # noqa: RUF012 - msgspec makes each its own
    cache_size: int = DEFAULT_CACHE_SIZE
    cache_bytes: int | None = DEFAULT_CACHE_BYTES
    metrics: bool = False
    serializer: str | None = None
    deserializer: str | None = None

    def pack(self) -> bytes:
        """Return the configuration as msgpack: the same bytes for equal configurations, names left out."""
        return _encoder.encode(msgspec.structs.astuple(self))


_encoder = msgspec.msgpack.Encoder()
_read_fields = msgspec.msgpack.Decoder(list[Any]).decode


@lru_cache(maxsize=256)
def unpack(packed: bytes) -> StoreConfig:
    """Return what :meth:`StoreConfig.pack` packed; a proxy's every use may ask for it.

    Raises:
        SpecError: the bytes are no such packing, or a field is of the wrong type.
    """
    try:
        fields = dict(zip(StoreConfig.__struct_fields__, _read_fields(packed), strict=True))
    except (ValueError, msgspec.DecodeError) as error:
        raise SpecError(StoreConfig.__name__, str(error)) from None
    return StoreConfig.from_config(fields)
