"""Configurations of the transformers that come with isthmus."""

from __future__ import annotations

import uuid
from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Any

from pydantic import Field

from isthmus.bench.config import Config, TransformerConfig

if TYPE_CHECKING:
    from isthmus.bench.transform.pickle_file import PickleFileTransformer
    from isthmus.bench.transform.proxies import ProxyTransformer

__all__ = ["ConnectorConfig", "NullConfig", "PickleFileConfig", "ProxyConfig"]


class NullConfig(TransformerConfig):
    """Data travel with the task, by value."""

    name: str = "null"

    def get_transformer(self, run_dir: Path) -> None:
        """There is none."""


class PickleFileConfig(TransformerConfig):
    """Data travel as pickled files."""

    name: str = "pickle-file"
    file_dir: Path | None = Field(
        None, description="folder that all workers see (default: `objects` in the run directory)"
    )

    def get_transformer(self, run_dir: Path) -> PickleFileTransformer:
        """Make the folder."""
        from isthmus.bench.transform.pickle_file import PickleFileTransformer

        return PickleFileTransformer(self.file_dir or run_dir / "objects")


class ConnectorConfig(Config):
    """The channel of a store."""

    kind: str = Field(default="shm", description="kind of connector: shm, file, redis, ...")
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the connector, as an inline TOML table"
    )


class ProxyConfig(TransformerConfig):
    """Data travel through a store, their proxies with the task."""

    name: str = "proxy"
    connector: ConnectorConfig = Field(
        default=ConnectorConfig(), description="channel of the store"
    )
    cache_size: int = Field(16, ge=0, description="objects that each process keeps after use")

    def get_transformer(self, run_dir: Path) -> ProxyTransformer:
        """Open the store, in a space of its own unless the options name one."""
        from isthmus.bench.transform.proxies import ProxyTransformer

        name = f"bench-{uuid.uuid4().hex[:12]}"
        options = dict(self.connector.options)
        if self.connector.kind in ("shm", "memory"):
            options.setdefault("name", name)
        elif self.connector.kind == "file":
            options.setdefault("store_dir", str((run_dir / "objects").absolute()))
        elif self.connector.kind == "redis":
            options.setdefault("prefix", name)
        return ProxyTransformer.over(
            self.connector.kind, options, name=name, cache_size=self.cache_size
        )
