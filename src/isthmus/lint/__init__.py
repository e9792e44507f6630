"""Mistakes of ownership, found without running the program.

An abstract interpretation of each function's syntax tree: which variables hold owned proxies, which
were moved, which are borrowed by a reference or by a task that was not waited for. What is not followed
(attributes, items, closures, unknown functions) is given the benefit of the doubt. It knows names, not
types, and imports nothing of what it checks.
"""

from isthmus.lint.check import lint_paths, lint_source
from isthmus.lint.findings import CODES, Finding, Place
from isthmus.lint.report import FORMATS, rendered

__all__ = ["CODES", "FORMATS", "Finding", "Place", "lint_paths", "lint_source", "rendered"]
