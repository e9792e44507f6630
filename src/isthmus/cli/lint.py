"""``isthmus lint``: mistakes of ownership in Python files, found without running them."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from isthmus.cli.arguments import Parser
from isthmus.errors import SpecError
from isthmus.lint import CODES, FORMATS, lint_paths, lint_source, rendered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.lint import Finding

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Check; returns 0 if nothing was found, 1 otherwise."""
    options = _parser().parse_args(argv)
    ignored = _codes(options.ignore)
    findings: list[Finding] = []
    if "-" in options.paths:
        findings += lint_source(sys.stdin.buffer.read(), "<stdin>")
    findings += lint_paths([path for path in options.paths if path != "-"])
    findings = [finding for finding in findings if finding.code not in ignored]
    shown = rendered(findings, options.format)
    if shown:
        print(shown)
    if findings and options.format == "text":
        files = len({finding.path for finding in findings})
        print(f"{_counted(len(findings), 'finding')} in {_counted(files, 'file')}", file=sys.stderr)
    return 1 if findings else 0


def _parser() -> Parser:
    width = max(map(len, CODES))
    parser = Parser(
        "isthmus lint",
        description="Find what breaks the rules of ownership, without running it.",
        epilog="codes:\n" + "\n".join(f"  {code:<{width}}  {rule}" for code, rule in CODES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, or - for stdin")
    parser.add_argument("--format", choices=FORMATS, default="text", help="text, if not told")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="CODE",
        help="leave a code out, or several separated by commas; repeat for more",
    )
    return parser


def _codes(texts: Sequence[str]) -> set[str]:
    codes = {code.strip().upper() for text in texts for code in text.split(",") if code.strip()}
    if unknown := sorted(codes - CODES.keys()):
        raise SpecError("isthmus lint", f"no code {unknown[0]!r} (known: {', '.join(CODES)})")
    return codes


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
