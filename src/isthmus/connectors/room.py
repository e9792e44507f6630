"""Fresh memory for an object that is about to be received."""

from __future__ import annotations

import contextlib
import mmap

__all__ = ["room"]

_MAPPED_BYTES = (
    1 << 20
)  # from here on, pages fresh from the kernel are cheaper than clearing old ones


def room(size: int) -> memoryview:
    """Return `size` writable bytes, in huge pages where there are such."""
    if size < _MAPPED_BYTES:
        return memoryview(bytearray(size))
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)
