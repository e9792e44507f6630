"""Memory to receive into: one stretch for small frames, and pages of its own for each large body."""

from __future__ import annotations

import contextlib
import mmap
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.wire.frames import Buffer

__all__ = ["allocate", "scratch"]

PAGES = 1 << 20
"""From this size on a body gets pages of its own, large ones where the kernel has them; none is zeroed."""

SCRATCH_BYTES = 1 << 18

_local = threading.local()


def scratch() -> memoryview:
    """Return memory to receive small frames into; of this thread, since a receive releases the GIL."""
    found: memoryview | None = getattr(_local, "scratch", None)
    if found is None:
        found = _local.scratch = memoryview(bytearray(SCRATCH_BYTES))
    return found


def allocate(n: int) -> Buffer:
    """Return memory for a body; pages that were never touched cost nothing until bytes come."""
    if n < PAGES:
        return bytearray(n)
    try:
        pages = mmap.mmap(-1, n, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(str(error)) from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)
