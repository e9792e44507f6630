"""One run: a directory for it, the application on its engine, and what it took."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.bench import toml
from isthmus.bench.engine import Engine
from isthmus.bench.executor.native_threads import limited
from isthmus.bench.logging import logging_to
from isthmus.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.bench.apps import Check
    from isthmus.bench.config import BenchConfig

__all__ = ["Summary", "environment", "execute", "new_run_dir"]

logger = logging.getLogger(__name__)


class Summary(NamedTuple):
    """What a run came to."""

    run_dir: Path
    makespan_s: float
    """From starting the executor to its end; without checking the result."""
    start_s: float
    """Of it, until the executor was there: a cold start, which a longer run pays only once."""
    end_s: float
    """Of it, from the end of the application until workers were gone."""
    tasks: int
    check: Check | None
    """None for an application that does not check itself."""


def execute(config: BenchConfig) -> Summary:
    """Run an application in a directory of its own, which also says how to run it again.

    Raises:
        SpecError: the directory exists, or its format is wrong.
        OSError: it cannot be made.
        Exception: whatever the application raised; its log and records are complete.
    """
    run_dir = new_run_dir(config)
    (run_dir / "config.toml").write_text(toml.dumps(config.contents()), encoding="utf-8")
    (run_dir / "environment.toml").write_text(toml.dumps(environment()), encoding="utf-8")
    log = config.logging
    with logging_to(log.level, run_dir / log.file_name, log.file_level):
        logger.info("%s in %s", config.app.name, run_dir)
        try:
            return _run(config, run_dir)
        except BaseException as error:
            logger.error("failed: %s: %s", type(error).__name__, error)
            logger.debug("failed", exc_info=True)
            raise


def _run(config: BenchConfig, run_dir: Path) -> Summary:
    engine_config = config.engine
    with limited(getattr(engine_config.executor, "native_threads", 1)):
        app = config.app.get_app()  # numeric libraries of this process are loaded here
    with contextlib.closing(app), contextlib.ExitStack() as stack:
        transformer = engine_config.transformer.get_transformer(run_dir)
        if transformer is not None and hasattr(transformer, "clear"):
            stack.callback(transformer.clear)
        records = engine_config.record_logger.get_record_logger(
            run_dir / engine_config.task_record_file_name
        )
        stack.callback(records.close)
        begin = time.perf_counter()
        executor = engine_config.executor.get_executor()
        started = time.perf_counter()
        with Engine(executor, transformer, engine_config.filter.get_filter(), records) as engine:
            app.run(engine, run_dir)
            ran = time.perf_counter()
        end = time.perf_counter()
        makespan = end - begin
        check: Check | None = getattr(app, "check", None)
        makespan -= check.seconds if check is not None else 0.0
        summary = Summary(
            run_dir, makespan, started - begin, end - ran, engine.tasks_executed, check
        )
    logger.info(
        "makespan %.3f s (start %.3f s, end %.3f s), %d tasks",
        summary.makespan_s, summary.start_s, summary.end_s, summary.tasks,
    )  # fmt: skip
    return summary


def new_run_dir(config: BenchConfig) -> Path:
    """Make the run's directory.

    Raises:
        SpecError: it exists, or the format has an unknown placeholder.
        OSError: it cannot be made.
    """
    names = {
        "name": config.app.name,
        "executor": config.engine.executor.name,
        "transformer": config.engine.transformer.name,
        "timestamp": datetime.datetime.now().strftime("%Y-%m-%d-%H-%M-%S-%f")[:-3],
    }
    try:
        path = Path(config.run.dir_format.format(**names))
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        known = ", ".join(f"{{{n}}}" for n in names)
        raise SpecError(
            "run.dir_format", f"{config.run.dir_format!r}: {error}; known: {known}"
        ) from None
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise SpecError(
            "run.dir_format", f"{path} exists; a run never writes over another, name a new one"
        ) from None
    return path


def environment() -> dict[str, Any]:
    """Return what a reader of the results needs to know of the machine and the software."""
    from importlib.metadata import distributions

    packages = {d.name: d.version for d in distributions() if d.name}
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": sys.version,
        "implementation": platform.python_implementation(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(),
        "packages": dict(sorted(packages.items())),
    }


def _cpu() -> str:
    return next(_cpu_names(), platform.processor() or "unknown")


def _cpu_names() -> Iterator[str]:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                yield line.partition(":")[2].strip()
