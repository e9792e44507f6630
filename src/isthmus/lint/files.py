"""The files to check: Python sources below folders, read as the interpreter would read them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from isthmus.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["python_files", "read"]

_SKIPPED = {"__pycache__", "node_modules", "site-packages"}


def python_files(paths: Sequence[str]) -> Iterator[tuple[str, OSError | None]]:
    """Yield each source once, with an error in place of what cannot be listed.

    A file is taken as named; below a folder, ``*.py`` other than hidden files, hidden folders and
    virtual environments. Links to folders are not followed.

    Raises:
        SpecError: there is nothing at a path.
    """
    for path in paths:
        if not os.path.exists(path):
            raise SpecError("isthmus lint", f"there is no file or folder {path!r}")
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for name, error in _below(path) if os.path.isdir(path) else [(path, None)]:
            if error is None:
                try:
                    status = os.stat(name)
                except OSError as problem:  # a link to nowhere, or gone meanwhile
                    error = problem
                else:
                    if name != path and not stat.S_ISREG(status.st_mode):
                        continue
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
            yield name, error


def _below(folder: str) -> Iterator[tuple[str, OSError | None]]:
    errors: list[OSError] = []
    for root, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _SKIPPED
            and not os.path.exists(os.path.join(root, name, "pyvenv.cfg"))
        )
        for name in sorted(names):
            if name.endswith(".py") and not name.startswith("."):
                yield os.path.join(root, name), None
        while errors:
            error = errors.pop()
            yield error.filename or folder, error
    for error in errors:
        yield error.filename or folder, error


def read(path: str) -> bytes:
    """Return a file's bytes; a path that is no regular file, such as a pipe, is an error.

    Raises:
        OSError: it cannot be read.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        return file.read()
