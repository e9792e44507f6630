"""What this machine lends to this process, as kernel and container see it; standard library only."""

from __future__ import annotations

import os
import platform
import resource
import sys
from typing import NamedTuple

__all__ = ["Machine", "SharedMemory"]

SMALL_SHARED_MEMORY = 64 << 20
"""What a container runtime gives to ``/dev/shm`` unless told otherwise."""


class SharedMemory(NamedTuple):
    """The file system behind shared memory, in bytes."""

    path: str
    total: int
    free: int
    writable: bool

    @property
    def is_container_default(self) -> bool:
        """Whether it is as small as a container runtime makes it unasked."""
        return 0 < self.total <= SMALL_SHARED_MEMORY


class Machine(NamedTuple):
    """The facts that a measurement should be read with."""

    system: str
    processor: str
    python: str
    cores: float
    """What may be used: affinity and the control group's quota, which can be a fraction."""
    cores_present: int
    memory: int
    """Bytes, of the machine or of the control group if that is less; 0 if unknown."""
    memory_available: int
    shared_memory: SharedMemory | None
    open_files: tuple[int, int]
    """Soft and hard limit of this process; -1 is no limit."""
    ptrace_scope: int | None
    """Yama's setting: 0 anyone of the same user, 1 parents only, 2 root, 3 nobody; None without Yama."""

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        memory, available = _memory()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        scope = _read("/proc/sys/kernel/yama/ptrace_scope")
        return cls(
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            processor=_processor(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            cores=_cores(),
            cores_present=os.cpu_count() or 1,
            memory=memory,
            memory_available=available,
            shared_memory=shared_memory(os.environ.get("ISTHMUS_SHM_DIR") or "/dev/shm"),
            open_files=(soft, hard),
            ptrace_scope=int(scope) if scope else None,
        )


def shared_memory(path: str) -> SharedMemory | None:
    """Return what there is at `path`, None if there is no such directory."""
    try:
        stat = os.statvfs(path)
    except OSError:
        return None
    return SharedMemory(
        path,
        stat.f_blocks * stat.f_frsize,
        stat.f_bavail * stat.f_frsize,
        os.access(path, os.W_OK | os.X_OK),
    )


def _cores() -> float:
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return min(float(usable), *_quotas())


def _quotas() -> list[float]:
    """Return the CPU quota of the control group, version 2 then 1, as cores."""
    found = [float("inf")]
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        found.append(int(quota) / int(period))
    return found


def _memory() -> tuple[int, int]:
    facts = dict(line.split(":", 1) for line in _read("/proc/meminfo").splitlines() if ":" in line)
    total, available = (
        int(facts.get(name, "0 kB").split()[0]) * 1024 for name in ("MemTotal", "MemAvailable")
    )
    if not total:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        most, now = _read(limit), _read(used)
        if most.isdigit() and int(most) < total:  # "max", or a number beyond the machine: no limit
            return int(most), min(available, int(most) - int(now or 0))
    return total, available


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""
