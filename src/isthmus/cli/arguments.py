"""Command-line arguments: mistakes are errors of ours; durations are read as people write them."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from isthmus.errors import SpecError

__all__ = ["Parser", "duration"]

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Parser(argparse.ArgumentParser):
    """A parser that raises instead of leaving the process."""

    def error(self, message: str) -> NoReturn:
        """Turn a mistake into one line that says where the options are listed.

        Raises:
            SpecError: always.
        """
        raise SpecError(self.prog, f"{message}; see `{self.prog} --help`")


def duration(text: str) -> float:
    """Read ``90``, ``90s``, ``15m``, ``2h`` or ``1.5d`` as seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write 90s, 15m, 2h or 1.5d")
    return float(match[1]) * _SECONDS[match[2] or "s"]
