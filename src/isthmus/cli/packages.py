"""Which dependencies are installed, by extra, from metadata alone: nothing is imported to find out."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

__all__ = ["Package", "packages"]

_REQUIREMENT = re.compile(
    r"""(?P<name>[A-Za-z0-9._-]+) \s* (?:>=\s*(?P<least>[0-9.]+))? .*?
        (?:;.*? extra\s*==\s*["'](?P<extra>[^"']+)["'].*)? $""",
    re.VERBOSE,
)


class Package(NamedTuple):
    """One distribution that isthmus can use."""

    name: str
    extra: str
    """What to install it by; empty for a dependency of the core."""
    least: str
    """Oldest version that will do; empty if any does."""
    version: str | None

    @property
    def good(self) -> bool:
        """Whether it is installed and new enough."""
        return self.version is not None and _numbers(self.version) >= _numbers(self.least)


def packages(distribution: str = "isthmus") -> list[Package]:
    """Return what a distribution's metadata asks for, each package once, the core's first.

    Raises:
        PackageNotFoundError: the distribution itself is not installed.
    """
    found: dict[str, Package] = {}
    for text in requires(distribution) or ():
        match = _REQUIREMENT.match(text)
        if match is None or match["name"] == distribution:  # an extra made of other extras
            continue
        name = match["name"]
        if name not in found:
            found[name] = Package(name, match["extra"] or "", match["least"] or "", _version(name))
    return sorted(found.values(), key=lambda p: p.extra != "")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", text.split("+")[0])[:3])
