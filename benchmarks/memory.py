"""Peak memory of a call, in this process, by the kernel's own high-water mark."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any


def peak_above(call: Callable[[], Any]) -> int:
    """Return by how many bytes the resident memory rose above its start while `call` ran.

    Pages of shared memory and of mapped files are left out: they are what is stored, not what storing
    takes. A call's result is kept until it is counted. Memory that the allocator kept from before is not
    counted again.
    """
    gc.collect()
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")  # reset VmHWM (Linux, proc_pid_clear_refs(5))
    before = _status("VmRSS")
    stored = _status("RssShmem") + _status("RssFile")
    result = call()
    peak = _status("VmHWM")
    mapped = max(0, _status("RssShmem") + _status("RssFile") - stored)
    del result
    return max(0, peak - before - mapped)


def _status(field: str) -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise LookupError(field)
