"""The one command, ``isthmus``.

Help comes from the static table below, so that it costs no more than starting Python; a sub-command is
imported when it is called. Each is a function ``main(argv) -> int``.

Exit codes: 0 done, 1 it failed, 2 it was asked wrongly, 130 interrupted, 141 the reader went away.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False  # typing's own costs an import
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "demo": (
        "isthmus.cli.demo",
        "word counts and a tiled Cholesky, by value and by proxy; no server",
    ),
    "doctor": (
        "isthmus.cli.doctor",
        "what is installed here, what answers, and how to get the rest",
    ),
    "bench": ("isthmus.bench.cli", "run an application with any executor and any data path"),
    "store": ("isthmus.cli.store", "list what stores hold on this machine; free what nobody needs"),
    "lint": ("isthmus.cli.lint", "find what breaks the rules of ownership, without running it"),
}
"""Sub-command to the module with its ``main`` and one line of help."""

INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
NO_READER = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        argv: arguments without the program's name; those of this process if None.
    """
    arguments, traceback = _without_traceback(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A terminal of few letters shows escapes: no result is lost for want of a "‖".
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # here, where a reader that went away is still our business
        return code
    except KeyboardInterrupt:
        if traceback:
            raise
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_went_away():
            return NO_READER
        if traceback or not _expected(error):
            raise
        print(f"isthmus: error: {_one_line(error)}", file=sys.stderr)
        return 2 if _asked_wrongly(error) else 1


def _dispatch(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name in ("-V", "--version"):
        from isthmus import __version__

        print(f"isthmus {__version__}")
        return 0
    if name.startswith("-"):
        from isthmus.errors import SpecError

        raise SpecError("isthmus", f"unknown option {name!r}; options of a command follow its name")
    if name not in COMMANDS:
        from isthmus.errors import UnknownKindError

        raise UnknownKindError("command", name, list(COMMANDS))
    import importlib

    code: int = importlib.import_module(COMMANDS[name][0]).main(arguments[1:])
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items())
    return f"""usage: isthmus [--version] [--traceback] COMMAND ...

Move data straight from where it is made to where it is used.

commands:
{listing}

`isthmus COMMAND --help` tells the rest. --traceback (or ISTHMUS_TRACEBACK=1) shows errors whole."""


def _without_traceback(argv: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``--traceback`` out, wherever it stands before a ``--``."""
    end = argv.index("--") if "--" in argv else len(argv)
    kept = [a for a in argv[:end] if a != "--traceback"]
    asked = len(kept) < end or os.environ.get("ISTHMUS_TRACEBACK", "") not in ("", "0")
    return [*kept, *argv[end:]], asked


def _reader_went_away() -> bool:
    """Tell a closed stdout from any other broken pipe, and keep the interpreter's exit quiet.

    The kernel is asked, since an unbuffered stdout forgets what it could not write.
    """
    import select

    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no descriptor: captured, replaced or closed
        return False
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return True


def _expected(error: Exception) -> bool:
    """Whether the text of an error says all: one of ours, or the system's refusal of a file."""
    from isthmus.errors import IsthmusError

    return isinstance(error, IsthmusError) or (isinstance(error, OSError) and bool(error.filename))


def _asked_wrongly(error: Exception) -> bool:
    from isthmus.errors import KeyTypeError, NameTakenError, SpecError, UnknownKindError

    return isinstance(error, SpecError | UnknownKindError | KeyTypeError | NameTakenError)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
