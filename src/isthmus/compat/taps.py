"""The dissertation's names of the benchmark suite (chapter 2)."""

from __future__ import annotations

from isthmus.compat.alias import Alias

__all__ = ["ALIAS", "run"]


def run() -> int:
    """Run an application as the command line of this process says: ``python -m taps.run``."""
    import sys

    from isthmus.bench.cli import main

    return main(["run", *sys.argv[1:]])


ALIAS = Alias(
    "taps",
    "0.2.1",
    {
        "": {},
        "apps": {"AppConfig": "isthmus.bench.config:AppConfig", "App": "isthmus.bench.plugins:App"},
        "apps.cholesky": {"CholeskyApp": "isthmus.bench.apps.cholesky:CholeskyApp"},
        "apps.mapreduce": {"MapReduceApp": "isthmus.bench.apps.mapreduce:MapReduceApp"},
        "engine": {
            "Engine": "isthmus.bench.engine:Engine",
            "TaskFuture": "isthmus.bench.futures:TaskFuture",
            "as_completed": "isthmus.bench.futures:as_completed",
            "wait": "isthmus.bench.futures:wait",
        },
        "executor": {"ExecutorConfig": "isthmus.bench.config:ExecutorConfig"},
        "executor.utils": {
            "FutureDependencyExecutor": "isthmus.bench.executor:FutureDependencyExecutor"
        },
        "filter": {"FilterConfig": "isthmus.bench.config:FilterConfig"},
        "logging": {"init_logging": "isthmus.bench.logging:init_logging"},
        "plugins": {"register": "isthmus.bench.plugins:register"},
        "run": {"main": "isthmus.compat.taps:run"},
        "transformer": {"TransformerConfig": "isthmus.bench.config:TransformerConfig"},
    },
    {
        "apps": "isthmus has no such application yet; `isthmus bench list` shows those it has",
        "executor": "an executor is chosen by its name, see `isthmus bench list`",
    },
)
