"""What can be plugged into the benchmark suite, and how it is found.

A plugin is a configuration class, whose fields are its TOML schema and its command-line options at
once, with one method that builds the thing. Registered here in a process with :func:`register`, or
declared by a distribution as an entry point; the built-ins are both listed below and declared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from isthmus.errors import SpecError
from isthmus.spec import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    from isthmus.bench.engine import Engine
    from isthmus.bench.records import TaskRecord

__all__ = ["GROUPS", "App", "Executor", "Filter", "RecordLogger", "Transformer", "register"]

C = TypeVar("C", bound=type)


class App(Protocol):
    """An application: arbitrary code whose tasks go through the engine.

    An application that checks its result leaves what it found in an attribute ``check``, a
    :class:`isthmus.bench.apps.Check`.
    """

    def run(self, engine: Engine, run_dir: Path) -> None:
        """Run to the end; files go into `run_dir`.

        Raises:
            VerificationError: the result is wrong.
        """
        ...

    def close(self) -> None:
        """Release what the application holds; idempotent."""
        ...


class Executor(Protocol):
    """What the engine needs of an executor: the first two methods of ``concurrent.futures.Executor``.

    Futures it returned may be arguments of later calls, at the top level. One that cannot do that is
    wrapped in :class:`isthmus.bench.executor.FutureDependencyExecutor`; one that can says so by an
    attribute ``dataflow = True``.
    """

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call."""
        ...

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accept no more calls; with `wait`, return when all are done and workers are gone."""
        ...


@runtime_checkable
class Transformer(Protocol):
    """Takes an object away and leaves an identifier that travels in its place; pickles.

    Used where there is one: ``size(identifier) -> int``, bytes, for the records; ``clear()``, which
    deletes every object, at the end of a run, after `close`.
    """

    def transform(self, obj: Any) -> Any:
        """Put an object where workers can reach it and return an identifier, which pickles."""
        ...

    def resolve(self, identifier: Any) -> Any:
        """Return the object of an identifier."""
        ...

    def close(self) -> None:
        """Release handles; deletes no data."""
        ...


class Filter(Protocol):
    """Chooses what is transformed; pickles."""

    def __call__(self, obj: Any, /) -> bool:
        """Return whether `obj` should be transformed."""
        ...


class RecordLogger(Protocol):
    """Receives one record for each finished task, from any thread."""

    def log(self, record: TaskRecord) -> None:
        """Keep a record; takes microseconds, never waits for a disk."""
        ...

    def close(self) -> None:
        """Write what is left; idempotent."""
        ...


GROUPS: dict[str, Registry[Any]] = {
    "app": Registry(
        "app",
        "isthmus.apps",
        {
            "cholesky": "isthmus.bench.apps.configs:CholeskyConfig",
            "mapreduce": "isthmus.bench.apps.configs:MapReduceConfig",
        },
    ),
    "executor": Registry(
        "executor",
        "isthmus.executors",
        {
            "dask": "isthmus.bench.executor.configs:DaskConfig",
            "parsl-htex": "isthmus.bench.executor.configs:ParslHTEXConfig",
            "parsl-local-htex": "isthmus.bench.executor.configs:ParslHTEXConfig",
            "parsl-local-thread": "isthmus.bench.executor.configs:ParslThreadConfig",
            "parsl-thread": "isthmus.bench.executor.configs:ParslThreadConfig",
            "process": "isthmus.bench.executor.configs:ProcessConfig",
            "process-pool": "isthmus.bench.executor.configs:ProcessConfig",
            "thread": "isthmus.bench.executor.configs:ThreadConfig",
            "thread-pool": "isthmus.bench.executor.configs:ThreadConfig",
        },
    ),
    "transformer": Registry(
        "transformer",
        "isthmus.transformers",
        {
            "null": "isthmus.bench.transform.configs:NullConfig",
            "pickle-file": "isthmus.bench.transform.configs:PickleFileConfig",
            "proxy": "isthmus.bench.transform.configs:ProxyConfig",
            "proxystore": "isthmus.bench.transform.configs:ProxyConfig",
        },
    ),
    "filter": Registry(
        "filter",
        "isthmus.filters",
        {
            "all": "isthmus.bench.filter.configs:AllConfig",
            "none": "isthmus.bench.filter.configs:NoneConfig",
            "object-size": "isthmus.bench.filter.configs:ObjectSizeConfig",
            "object-type": "isthmus.bench.filter.configs:ObjectTypeConfig",
            "pickle-size": "isthmus.bench.filter.configs:PickleSizeConfig",
        },
    ),
    "record-logger": Registry(
        "record-logger",
        "isthmus.record_loggers",
        {
            "json": "isthmus.bench.config:JSONRecordLoggerConfig",
            "null": "isthmus.bench.config:NullRecordLoggerConfig",
        },
    ),
}
"""Configuration classes by kind of plugin and name."""


def register(kind: str) -> Callable[[C], C]:
    """Decorate a configuration class to add it to this process's plugins of a kind.

    Its name is the default of its field ``name``.

    Args:
        kind: ``app``, ``executor``, ``transformer``, ``filter`` or ``record-logger``.

    Raises:
        UnknownKindError: there is no such kind.
        SpecError: the class has no name.
        NameTakenError: another plugin has the name.
    """
    group = GROUPS.get(kind)
    if group is None:
        from isthmus.errors import UnknownKindError

        raise UnknownKindError("kind of plugin", kind, sorted(GROUPS))

    def add(config: C) -> C:
        field = getattr(config, "model_fields", {}).get("name")
        name = field.default if field is not None else None
        if not isinstance(name, str) or not name:
            raise SpecError(
                config.__qualname__, "needs a field `name` with a default: name: str = 'mine'"
            )
        group.register(name, config)
        return config

    return add
