"""Findings as text, as JSON, and as annotations of GitHub's workflows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.lint.findings import Finding

__all__ = ["FORMATS", "rendered"]

FORMATS = ("text", "json", "github")


def rendered(findings: Iterable[Finding], form: str) -> str:
    """Return findings in a form of :data:`FORMATS`; "" if there are none and the form has no frame.

    The workflow commands are those of
    https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions.
    """
    if form == "json":
        return json.dumps([_object(finding) for finding in findings], indent=2)
    line = _annotation if form == "github" else _text
    return "\n".join(line(finding) for finding in findings)


def _text(finding: Finding) -> str:
    at = f"{finding.path}:{finding.line}:{finding.column}: {finding.code} {finding.message}"
    if finding.earlier is None:
        return at
    line, column, text = finding.earlier
    return f"{at}\n    {finding.path}:{line}:{column}: {text}"


def _object(finding: Finding) -> dict[str, object]:
    found = {name: getattr(finding, name) for name in ("path", "line", "column", "code", "message")}
    earlier = finding.earlier
    return {**found, "earlier": earlier._asdict() if earlier else None}


def _annotation(finding: Finding) -> str:
    message = finding.message
    if finding.earlier is not None:
        message += f"\nline {finding.earlier.line}: {finding.earlier.text}"
    place = f"file={_escaped(finding.path, ':,')},line={finding.line},col={finding.column}"
    return f"::error {place},title={finding.code}::{_escaped(message)}"


def _escaped(text: str, also: str = "") -> str:
    for character in "%\r\n" + also:
        text = text.replace(character, f"%{ord(character):02X}")
    return text
