"""What ``isthmus-compat.pth`` imports when Python starts with ``ISTHMUS_COMPAT`` set, and nobody else.

Whatever is wrong is printed, never raised: the interpreter, and what it is to run, come first.
"""

from __future__ import annotations

import os
import sys

__all__: list[str] = []


def _start() -> None:
    try:
        from isthmus.compat import VARIABLE, install, named
    except Exception as error:
        print(f"isthmus: ISTHMUS_COMPAT has no effect: {error}", file=sys.stderr)
        return
    for package in named(os.environ.get(VARIABLE, "")):
        try:
            install(package)
        except Exception as error:
            print(f"isthmus: {VARIABLE}: {error}", file=sys.stderr)


_start()
