"""A store's configuration as a pydantic model, which is what programs put into models of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from isthmus import codec, store
from isthmus.connectors import connectors
from isthmus.spec import require
from isthmus.store.config import DEFAULT_CACHE_BYTES, DEFAULT_CACHE_SIZE

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from pydantic import BaseModel, ConfigDict, Field, field_validator

    from isthmus.connectors import Connector
else:
    _pydantic = require("pydantic", extra="bench", what="proxystore.store.config")
    BaseModel, ConfigDict, Field = _pydantic.BaseModel, _pydantic.ConfigDict, _pydantic.Field
    field_validator = _pydantic.field_validator

__all__ = ["ConnectorConfig", "StoreConfig"]

_ADAPTORS = {
    "file": ("connectors", "FileConnector"),
    "redis": ("connectors", "RedisConnector"),
    "memory": ("connectors", "LocalConnector"),
    "multi": ("routing", "MultiConnector"),
}


class ConnectorConfig(BaseModel):
    """Which connector, and what it is opened with.

    `kind` is ours (``"file"``, ``"redis"``, ...); ``"local"`` and the dotted path of a class of
    ProxyStore's are understood, too.
    """

    model_config = ConfigDict(extra="forbid")

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("kind")
    @classmethod
    def _ours(cls, kind: str) -> str:
        if kind.startswith("proxystore."):  # proxystore.connectors.redis.RedisConnector
            kind = kind.split(".")[-2]
        return {"local": "memory"}.get(kind, kind)

    def get_connector_type(self) -> type[Connector[Any]]:
        """Return the connector's class.

        Raises:
            UnknownKindError: no connector is of that kind.
        """
        if self.kind in _ADAPTORS:
            import importlib

            module, name = _ADAPTORS[self.kind]
            found = getattr(importlib.import_module(f"isthmus.compat.proxystore.{module}"), name)
            return cast("type[Connector[Any]]", found)
        return connectors.get(self.kind)

    def get_connector(self) -> Connector[Any]:
        """Open the connector."""
        options = {k: v for k, v in self.options.items() if k != "clear"}
        connector: Connector[Any] = self.get_connector_type().from_config(options)
        return connector

    @classmethod
    def from_connector(cls, connector: Connector[Any]) -> ConnectorConfig:
        """Return what opens a connector like this one."""
        return cls(kind=connector.kind, options=connector.config())


class StoreConfig(BaseModel):
    """A store, but for its data and its secrets.

    Args:
        name: the store's.
        connector: its channel.
        serializer: as the store's constructor takes it, or by its importable name.
        deserializer: likewise.
        cache_size: objects kept after deserialization.
        cache_bytes: bound on their size together.
        metrics: whether operations are counted and timed.
        populate_target: whether a proxy has its target where it was made.
        auto_register: whether opening the store registers it.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    connector: ConnectorConfig
    serializer: str | None = None
    deserializer: str | None = None
    cache_size: int = DEFAULT_CACHE_SIZE
    cache_bytes: int | None = DEFAULT_CACHE_BYTES
    metrics: bool = False
    populate_target: bool = True
    auto_register: bool = False

    @field_validator("serializer", "deserializer", mode="before")
    @classmethod
    def _by_name(cls, given: Callable[..., Any] | str | None) -> str | None:
        return codec.pack_callable(given) if callable(given) else given

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> StoreConfig:
        """Return the configuration in a file."""
        import tomllib

        with open(path, "rb") as file:
            return cls.model_validate(tomllib.load(file))

    def native(self) -> store.StoreConfig:
        """Return the same as isthmus's own configuration."""
        return store.StoreConfig(
            self.name,
            self.connector.kind,
            self.connector.options,
            self.cache_size,
            self.cache_bytes,
            self.metrics,
            self.serializer,
            self.deserializer,
        )

    @classmethod
    def of(cls, config: store.StoreConfig, **more: Any) -> StoreConfig:
        """Return an own configuration as this model; `more` are the fields that only this one has."""
        return cls(
            name=config.name,
            connector=ConnectorConfig(kind=config.kind, options=config.options),
            serializer=config.serializer,
            deserializer=config.deserializer,
            cache_size=config.cache_size,
            cache_bytes=config.cache_bytes,
            metrics=config.metrics,
            **more,
        )
