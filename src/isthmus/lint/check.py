"""From sources to findings."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from typing import TYPE_CHECKING

from isthmus.lint.files import python_files, read
from isthmus.lint.findings import Finding
from isthmus.lint.flow import check_tree
from isthmus.lint.names import TRIGGERS
from isthmus.lint.suppression import suppressed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["lint_paths", "lint_source"]


def lint_paths(paths: Sequence[str]) -> Iterator[Finding]:
    """Check files, and the Python files below folders.

    Nothing of them is imported or run. What cannot be read or parsed is a finding too (IOW000).

    Raises:
        SpecError: there is nothing at a path.
    """
    for path, error in python_files(paths):
        if error is None:
            try:
                source = read(path)
            except OSError as problem:
                error = problem
            else:
                yield from lint_source(source, path)
        if error is not None:
            yield _unchecked(path, 1, 1, f"cannot be read: {error.strerror or error}")


def lint_source(source: str | bytes, path: str = "<string>") -> list[Finding]:
    """Check one module's text, and return what breaks a rule, in the order of lines.

    Args:
        source: the text, or bytes in the encoding that they declare (UTF-8 if none).
        path: its name in the findings.
    """
    try:
        text = source if isinstance(source, str) else _decoded(source)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is another linter's business
            tree = ast.parse(text, path)
        if not any(word in text for word in TRIGGERS):
            return []
        found = check_tree(tree, path)
    except SyntaxError as error:
        line, column = error.lineno or 1, error.offset or 1
        return [_unchecked(path, line, max(column, 1), f"cannot be parsed: {error.msg}")]
    except (UnicodeDecodeError, ValueError) as error:  # also a null byte
        return [_unchecked(path, 1, 1, f"cannot be decoded: {error}")]
    except (RecursionError, MemoryError):
        return [_unchecked(path, 1, 1, "cannot be followed: it is nested too deeply")]
    lines = _lines(text)
    return [finding for finding in found if not suppressed(finding, lines)]


def _decoded(source: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    return io.IncrementalNewlineDecoder(None, translate=True).decode(source.decode(encoding))


def _lines(text: str) -> list[str]:
    """Split as the parser does: a form feed or a line separator inside a line is none of its ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _unchecked(path: str, line: int, column: int, message: str) -> Finding:
    return Finding(path, line, column, "IOW000", message, None, line)
