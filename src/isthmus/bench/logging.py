"""Logging of a benchmark: to the terminal, and to a file of the run."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["init_logging", "logging_to"]

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


def init_logging(
    level: int | str = "INFO",
    file: str | os.PathLike[str] | None = None,
    file_level: int | str = "INFO",
) -> list[logging.Handler]:
    """Send log messages to stderr and, if there is one, to a file; called again, it starts anew.

    Only messages of ``isthmus`` and of warnings or worse from others are shown, so that an engine's
    chatter does not cover the application's.

    Returns:
        The handlers, on the root logger.
    """
    root = logging.getLogger()
    for handler in [h for h in root.handlers if getattr(h, "isthmus", False)]:
        root.removeHandler(handler)
        handler.close()
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setLevel(level)
    if file is not None:
        handlers.append(logging.FileHandler(file, encoding="utf-8"))
        handlers[1].setLevel(file_level)
    for handler in handlers:
        handler.isthmus = True  # type: ignore[attr-defined]
        handler.setFormatter(logging.Formatter(FORMAT, datefmt="%H:%M:%S"))
        root.addHandler(handler)
    logging.getLogger("isthmus").setLevel(min(h.level for h in handlers))
    return handlers


@contextlib.contextmanager
def logging_to(
    level: int | str, file: str | os.PathLike[str], file_level: int | str
) -> Iterator[None]:
    """Log as `init_logging` does for the length of a block."""
    handlers = init_logging(level, file, file_level)
    try:
        yield
    finally:
        for handler in handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
