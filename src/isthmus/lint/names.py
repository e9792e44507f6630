"""Which names of a file stand for the operations of the ownership API.

Names are followed through imports, under whatever alias; nothing is imported. The dissertation's module
paths (``proxystore.store.ref`` and its like) count as ours.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["HANDLES", "TRIGGERS", "bound_names", "imported_names", "operation"]

HANDLES = {"OwnedProxy", "RefProxy", "RefMutProxy"}
_ON_OWNERS = {"borrow", "mut_borrow", "clone", "into_owned", "update", "drop"}
_HARMLESS = {"resolve", "is_resolved", "extract", "get_factory", "resolve_async", "get_key"}
_KNOWN = {
    "store": _ON_OWNERS | HANDLES | {"StoreExecutor"},
    "store.ownership": _ON_OWNERS | HANDLES,
    "store.ref": _ON_OWNERS | HANDLES,
    "store.scopes": {"submit"},
    "store.executor": {"StoreExecutor"},
    "store.utils": _HARMLESS,
    "proxy": _HARMLESS,
}
_ROOTS = ("isthmus.compat.proxystore.", "isthmus.", "proxystore.")

TRIGGERS = ("owned_proxy", "into_owned", "OwnedProxy", "clone", "borrow")
"""A file with none of these words has no owner, and need not be followed."""


def operation(dotted: str) -> str:
    """Return which operation a full dotted name is, or "" if it is none of ours."""
    for root in _ROOTS:
        if dotted.startswith(root):
            module, _, name = dotted[len(root) :].rpartition(".")
            if name in _KNOWN.get(module, ()):
                return "look" if name in _HARMLESS else name
    return ""


def imported_names(body: Iterable[ast.stmt], outer: Mapping[str, str]) -> dict[str, str]:
    """Return local name to dotted name for a scope, inner definitions hiding outer imports."""
    found = dict(outer)
    for node in _statements(body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head = alias.name.partition(".")[0]
                found[alias.asname or head] = alias.name if alias.asname else head
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                if alias.name != "*":
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    continue
                for root in _ROOTS:
                    if node.module.startswith(root):
                        names = _KNOWN.get(node.module[len(root) :], ())
                        found.update({name: f"{node.module}.{name}" for name in names})
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.pop(node.name, None)
    return found


def bound_names(body: Iterable[ast.stmt]) -> set[str]:
    """Return the names that statements of a scope give a value to, other than by an import."""
    found = set()
    for statement in _statements(body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(statement.name)
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of one scope, those inside its ifs and loops too."""
    for node in body:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, field, ()))
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            yield from _statements(part.body)
