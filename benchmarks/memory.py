"""Peak memory of a call, in this process, by the kernel's own high-water mark."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any


def peak_above(call: Callable[[], Any]) -> int:
    """Return by how many bytes the resident memory rose above its start while `call` ran.

    Counts everything resident, mapped shared memory too; a call's result is kept until it is counted.
    Memory that the allocator kept from before is not counted again, so warm up with something small.
    """
    gc.collect()
    with open("/proc/self/clear_refs", "w") as marks:
        marks.write("5")  # reset VmHWM (Linux, proc_pid_clear_refs(5))
    before = _status("VmRSS")
    result = call()
    peak = _status("VmHWM")
    del result
    return max(0, peak - before)


def _status(field: str) -> int:
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    raise LookupError(field)
