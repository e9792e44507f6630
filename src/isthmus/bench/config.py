"""Configuration: pydantic models whose fields are the TOML schema and the command line at once.

Only `isthmus bench run` and those who write configurations import this module; workers never do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from isthmus.bench.records import JSONRecordLogger, NullRecordLogger

if TYPE_CHECKING:
    from pathlib import Path

    from isthmus.bench import plugins

__all__ = [
    "AppConfig",
    "BenchConfig",
    "EngineConfig",
    "ExecutorConfig",
    "FilterConfig",
    "JSONRecordLoggerConfig",
    "LoggingConfig",
    "NullRecordLoggerConfig",
    "RecordLoggerConfig",
    "RunConfig",
    "TransformerConfig",
]

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class Config(BaseModel):
    """A section of the configuration: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True, arbitrary_types_allowed=True)


class PluginConfig(Config):
    """A section that chooses a plugin by its name."""

    name: str = Field(description="name of the plugin")


class AppConfig(PluginConfig):
    """Parameters of an application."""

    def get_app(self) -> plugins.App:
        """Build the application."""
        raise NotImplementedError(f"{type(self).__name__} has no get_app()")


class ExecutorConfig(PluginConfig):
    """Parameters of an executor."""

    def get_executor(self) -> plugins.Executor:
        """Build the executor; the engine shuts it down."""
        raise NotImplementedError(f"{type(self).__name__} has no get_executor()")


class TransformerConfig(PluginConfig):
    """Parameters of a transformer."""

    def get_transformer(self, run_dir: Path) -> plugins.Transformer | None:
        """Build the transformer, None for no transforming; files of its own go into `run_dir`."""
        raise NotImplementedError(f"{type(self).__name__} has no get_transformer()")


class FilterConfig(PluginConfig):
    """Parameters of a filter."""

    def get_filter(self) -> plugins.Filter:
        """Build the filter."""
        raise NotImplementedError(f"{type(self).__name__} has no get_filter()")


class RecordLoggerConfig(PluginConfig):
    """Parameters of a record logger."""

    def get_record_logger(self, path: Path) -> plugins.RecordLogger:
        """Build the logger, which writes to `path` if it writes."""
        raise NotImplementedError(f"{type(self).__name__} has no get_record_logger()")


class JSONRecordLoggerConfig(RecordLoggerConfig):
    """One JSON object a line."""

    name: str = "json"
    interval: float = Field(0.1, gt=0, description="seconds for which records wait in memory")

    def get_record_logger(self, path: Path) -> JSONRecordLogger:
        """Open the file."""
        return JSONRecordLogger(path, interval=self.interval)


class NullRecordLoggerConfig(RecordLoggerConfig):
    """No records."""

    name: str = "null"

    def get_record_logger(self, path: Path) -> NullRecordLogger:
        """Build the logger."""
        return NullRecordLogger()


class EngineConfig(Config):
    """What the application runs on."""

    executor: SerializeAsAny[ExecutorConfig]
    transformer: SerializeAsAny[TransformerConfig]
    filter: SerializeAsAny[FilterConfig]
    record_logger: SerializeAsAny[RecordLoggerConfig]
    task_record_file_name: str = Field(
        "tasks.jsonl", description="file of records in the run directory"
    )


class RunConfig(Config):
    """Where a run leaves its files."""

    dir_format: str = Field(
        "runs/{name}_{executor}_{timestamp}",
        description="run directory; {name} is the application's, {executor}, {transformer}, {timestamp}",
    )


class LoggingConfig(Config):
    """What is logged, and where."""

    level: Level = Field("INFO", description="least level shown in the terminal")
    file_level: Level = Field("INFO", description="least level written to the file")
    file_name: str = Field("log.txt", description="log file in the run directory")


class BenchConfig(Config):
    """Everything that a run needs to be repeated."""

    app: SerializeAsAny[AppConfig]
    engine: EngineConfig
    run: RunConfig
    logging: LoggingConfig

    def contents(self) -> dict[str, Any]:
        """Return every field, defaults too, as plain builtins; what is None is left out."""
        found: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return found
