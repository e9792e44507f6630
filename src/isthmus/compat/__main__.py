"""``python -m isthmus.compat --alias proxystore script.py``: run a program with aliases in place."""

from __future__ import annotations

import os
import runpy
import sys
from types import ModuleType
from typing import TYPE_CHECKING

from isthmus.compat import ALIASES, install, named
from isthmus.errors import SpecError, UnknownKindError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

USAGE = f"""usage: python -m isthmus.compat --alias NAMES script.py [ARGUMENT ...]
       python -m isthmus.compat --alias NAMES -m module [ARGUMENT ...]

Run a program with isthmus in the place of packages that are not installed.

  --alias NAMES   {", ".join(sorted(ALIASES))}; several with commas, or the option again
  -m              the program is a module, as for python itself

Processes that the program starts have the same aliases: they find them in ISTHMUS_COMPAT."""


def main(argv: Sequence[str]) -> int:
    """Run the program; what it ends with is what this process ends with.

    Args:
        argv: arguments after ``python -m isthmus.compat``.
    """
    try:
        packages, is_module, program = _read(argv)
        if not program:
            print(USAGE)
            return 0
        install(*packages, children=True)
    except (SpecError, UnknownKindError) as error:
        print(f"isthmus.compat: error: {error}", file=sys.stderr)
        return 2
    sys.argv[:] = program
    if is_module:
        # The interpreter put the working directory first, as it does for any -m.
        runpy.run_module(program[0], run_name="__main__", alter_sys=True)
    else:
        _run_script(program[0])
    return 0


def _read(argv: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    """Return the packages, whether the program is a module, and the program with its arguments.

    No program stands for a call for help.
    """
    packages: list[str] = []
    rest = list(argv)
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option in ("-h", "--help"):
            return [], False, []
        if option == "--alias":
            if not equals:
                if not rest:
                    raise SpecError("--alias", "names no package")
                value = rest.pop(0)
            packages += named(value)
        elif option == "-m":
            if not rest:
                raise SpecError("-m", "names no module")
            return _asked(packages), True, rest
        else:
            raise SpecError("unknown option", f"{option!r}; options of the program follow its name")
    if not rest:
        if packages:
            raise SpecError("nothing to run", "name a script, or -m and a module")
        return [], False, []
    return _asked(packages), False, rest


def _asked(packages: list[str]) -> list[str]:
    if not packages:
        raise SpecError("no alias asked for", "--alias proxystore, say, before the program")
    return packages


def _run_script(path: str) -> None:
    """Run a file as Python itself does: as the module ``__main__``, its folder first on the path.

    The module stays in its place: exit handlers, threads and pickles look it up after the script ended.
    """
    try:
        with open(path, "rb") as file:
            code = compile(file.read(), os.path.abspath(path), "exec")
    except OSError as error:
        print(f"isthmus.compat: error: cannot read {path!r}: {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
    module = ModuleType("__main__")
    whole = os.path.abspath(path)  # which leads there wherever the program changes to
    vars(module).update(__file__=whole, __spec__=None, __builtins__=__builtins__)
    sys.modules["__main__"] = module
    if not sys.flags.safe_path:  # python -P
        sys.path[0] = os.path.dirname(os.path.realpath(path))
    exec(code, vars(module))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
