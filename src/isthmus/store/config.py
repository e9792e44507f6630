"""What another process needs to open the same store."""

from __future__ import annotations

from typing import Any

from isthmus.spec import Spec

__all__ = ["DEFAULT_CACHE_BYTES", "DEFAULT_CACHE_SIZE", "StoreConfig"]

DEFAULT_CACHE_SIZE = 16
DEFAULT_CACHE_BYTES = 1 << 30


class StoreConfig(Spec, array_like=False):
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
