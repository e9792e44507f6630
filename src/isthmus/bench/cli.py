"""``isthmus bench``: run applications, list plugins.

Help of the command itself is static text; pydantic and what it describes are imported by ``run``.

Exit codes: 0 done and verified, 1 it failed, 2 it was asked wrongly, 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from isthmus.errors import IsthmusError, SpecError, UnknownKindError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = """usage: isthmus bench COMMAND ...

Run task-based applications with any executor and any data path, and measure.

commands:
  run   run an application: isthmus bench run --app cholesky --app.matrix-size 100 --app.block-size 25
  list  list applications, executors, transformers, filters and record loggers

`isthmus bench run --help` lists the options; with --app or --engine.executor, theirs too."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        argv: arguments after ``isthmus bench``; those of this process if None.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments else "--help"
    try:
        if command in ("-h", "--help", "help"):
            print(USAGE)
            return 0
        if command == "list":
            return _list()
        if command == "run":
            return _run(arguments[1:])
        raise UnknownKindError("command", command, ["list", "run"])
    except (SpecError, UnknownKindError) as error:
        _say(error)
        return 2
    except (IsthmusError, OSError) as error:
        _say(error)
        return 1
    except KeyboardInterrupt:
        print("isthmus bench: interrupted", file=sys.stderr)
        _leave_running_threads()
        return 130


def _say(error: BaseException) -> None:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"isthmus bench: error: {text}", file=sys.stderr)


def _leave_running_threads() -> None:
    """End the process now if a task still runs in one of its threads, which nothing can interrupt.

    Python would wait for the task. What there was to write is written: the engine closed its records.
    """
    import logging
    import os
    import threading

    if any(thread.name.startswith("isthmus-worker") for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)


def _list() -> int:
    from isthmus.bench.plugins import GROUPS

    width = max(map(len, GROUPS))
    for kind, registry in GROUPS.items():
        print(f"{kind:<{width}}  {', '.join(registry.kinds())}")
    return 0


def _run(argv: list[str]) -> int:
    require("pydantic", extra="bench", what="isthmus bench run")
    from isthmus.bench.command_line import read
    from isthmus.bench.run import execute

    config = read(argv)
    if config is None:
        return 0  # it was a call for help
    try:
        summary = execute(config)
    except (IsthmusError, OSError):
        raise
    except Exception as error:
        # The application's own: its type says as much as its text. The traceback is in the log.
        _say(RuntimeError(f"{config.app.name} failed: {type(error).__name__}: {error}"))
        return 1
    verified = summary.check.found if summary.check else "not checked by the application"
    print(f"run dir   {summary.run_dir}")
    parts = f"start {summary.start_s:.3f} s, end {summary.end_s:.3f} s"
    print(f"makespan  {summary.makespan_s:.3f} s ({parts})")
    print(f"tasks     {summary.tasks}")
    print(f"verified  {verified}")
    return 0
