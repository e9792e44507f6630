"""``# noqa`` comments: on the line of a finding, or on the last line of what it points at."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.lint.findings import Finding

__all__ = ["suppressed"]

_NOQA = re.compile(
    r"#\s*noqa(?P<codes>\s*:\s*[A-Z]+[0-9]*(?:[\s,]+[A-Z]+[0-9]+)*)?(?![\w:])", re.IGNORECASE
)


def suppressed(finding: Finding, lines: Sequence[str]) -> bool:
    """Tell whether a comment allows a finding: ``# noqa``, ``# noqa: IOW001, IOW004``, ``# noqa: IOW``."""
    for number in {finding.line, finding.last_line}:
        text = lines[number - 1] if 0 < number <= len(lines) else ""
        for match in _NOQA.finditer(text) if "noqa" in text.lower() else ():
            codes = re.split(r"[\s,:]+", (match["codes"] or "").strip(" :\t"))
            if codes == [""] or any(finding.code.startswith(c.upper()) for c in codes):
                return True
    return False
