"""Other packages' names for what isthmus does, so that programs written for them run as they are.

Three ways, which all do the same for the packages that they name and leave every other name alone:

    python -m isthmus.compat --alias proxystore script.py     # or: -m module
    isthmus.compat.install("proxystore")                      # before the program's own imports
    ISTHMUS_COMPAT=proxystore,taps python script.py           # every Python started below it, too

A package that is really installed is never replaced: its own modules are imported, and :func:`standing`
(or ``isthmus doctor``) says so.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock  # threading itself costs more than the rest of this package

from isthmus.compat.alias import ALIASES
from isthmus.compat.finder import AliasFinder, is_ours

__all__ = ["ALIASES", "VARIABLE", "install", "named", "standing", "uninstall"]

VARIABLE = "ISTHMUS_COMPAT"
"""Environment variable with the packages, separated by commas, that every new interpreter aliases."""

_finder = AliasFinder()
_lock = allocate_lock()


def install(*packages: str, children: bool = False) -> None:
    """Let isthmus stand in for foreign packages from now on, each where it is not really installed.

    Imports nothing; names that were imported already stay what they are.

    Args:
        packages: names in :data:`ALIASES`.
        children: also name them in :data:`VARIABLE`, so that processes started from here have them.

    Raises:
        UnknownKindError: nothing stands in for a package of that name; none was installed then.
    """
    unknown = [name for name in packages if name not in ALIASES]
    if unknown:
        from isthmus.errors import UnknownKindError

        raise UnknownKindError("package to stand in for", unknown[0], sorted(ALIASES))
    with _lock:
        _finder.packages.update(packages)
        if _finder.packages and _finder not in sys.meta_path:
            sys.meta_path.append(_finder)  # the last: what is installed comes first
        if children:
            known = named(os.environ.get(VARIABLE, ""))
            os.environ[VARIABLE] = ",".join(dict.fromkeys([*known, *packages]))


def uninstall(*packages: str) -> None:
    """Stop standing in for packages, all if none is named; what was imported keeps working."""
    with _lock:
        _finder.packages.difference_update(packages or list(_finder.packages))
        gone = ALIASES.keys() - _finder.packages
        for name in [n for n in sys.modules if n.partition(".")[0] in gone]:
            if is_ours(sys.modules.get(name)):
                del sys.modules[name]
        if not _finder.packages and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)


def standing(package: str) -> str:
    """Return what ``import package`` gives here, in a word; imports nothing.

    ``"isthmus"`` where isthmus stands in; the path of the package where it is installed, which then is
    what programs get; an empty string where it is neither.
    """
    module = sys.modules.get(package)
    if module is not None:
        return "isthmus" if is_ours(module) else getattr(module, "__file__", None) or "a folder"
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None:
        return ""
    if spec.loader is not None and spec.origin is not None:
        from isthmus.compat.finder import ORIGIN

        return "isthmus" if spec.origin == ORIGIN else spec.origin
    return "a folder"  # of that name, without __init__.py


def named(text: str) -> list[str]:
    """Return the packages that a value of :data:`VARIABLE` names."""
    return [name for name in (part.strip() for part in text.split(",")) if name]
