"""Bytes of an open file: mapped where that pays, read where it does not."""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import resource

from isthmus.errors import BrokenError

__all__ = ["map_private", "read"]

# Thousands of live views must not take the descriptors that the program needs for its sockets.
_ENOUGH = resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4
_CALLS_PER_LOOK = 16
_calls = itertools.count()
_short = False


def map_private(fd: int, size: int) -> memoryview | bytearray:
    """Return a writable copy-on-write view of the file; it keeps a descriptor open while it lives.

    Where the file system has no mappings, or descriptors run short, the bytes are read instead.
    """
    try:
        if _descriptors_run_short(fd):
            return read(fd, 0, size)
        return memoryview(mmap.mmap(fd, size, access=mmap.ACCESS_COPY))
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.EMFILE, errno.ENFILE):
            raise
        return read(fd, 0, size)


def _descriptors_run_short(fd: int) -> bool:
    global _short
    if next(_calls) % _CALLS_PER_LOOK == 0:
        # The system gives out the lowest number that is free.
        probe = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
        os.close(probe)
        _short = probe + _CALLS_PER_LOOK > _ENOUGH
    return _short


def read(fd: int, offset: int, size: int) -> bytearray:
    """Return exactly `size` bytes from `offset`, writable as a mapping is.

    Raises:
        BrokenError: the file ends before that.
    """
    data = bytearray(size)
    done = 0
    while done < size:
        # Linux reads at most 2 GiB a call.
        got = os.preadv(fd, [memoryview(data)[done:]], offset + done)
        if got == 0:
            raise BrokenError("stored file", f"ends after {done} of {size} bytes")
        done += got
    return data
