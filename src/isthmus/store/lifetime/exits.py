"""The end of a process, be it a program's own or a child's of multiprocessing."""

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["at_exit"]


def at_exit(call: Callable[[], Any]) -> None:
    """Have something called once this process ends by itself; a forked child has to ask for itself."""
    atexit.register(call)
    # A forked child of multiprocessing ends without looking at what atexit was told.
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, call, exitpriority=10)
