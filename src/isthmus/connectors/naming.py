"""Names of stored files: who made them, on which host, and nothing that could lead elsewhere."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import socket
from functools import cache

__all__ = ["fresh_name", "host_id", "is_name", "is_unfinished", "made_here", "owner"]

_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{1,8}-[0-9a-f]{12}")
_PART = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]+\.part")


@cache
def host_id(scope: str = "") -> str:
    """Return eight hex digits for this boot of this host, and for `scope` within it.

    A boot, because locks and shared memory do not outlive one; a scope, because containers of one host
    share its boot but not always its ``/dev/shm``.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read()
    except OSError:
        boot = platform.node()  # not Linux
    return hashlib.blake2b(f"{boot.strip()} {scope}".encode(), digest_size=4).hexdigest()


def fresh_name(host: str) -> str:
    """Return a name that nothing has: ``host-pid-random``, in hex."""
    return f"{host}-{os.getpid():x}-{os.urandom(6).hex()}"


def is_name(name: object) -> bool:
    """Return whether `fresh_name` could have made it. Keys come from outside: one must not be a path."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def is_unfinished(name: str) -> bool:
    """Return whether it names a file that somebody began to write."""
    return _PART.fullmatch(name) is not None


def made_here(name: str, host: str) -> bool:
    """Return whether a process of host `host` made this name, or the unfinished file."""
    return name.removeprefix(".").startswith(f"{host}-")


def owner(name: str, host: str) -> str:
    """Return ``host:pid`` of the process that made a name; another host's id where it is not this one."""
    there, pid, _ = name.split("-")
    return f"{socket.gethostname() if there == host else there}:{int(pid, 16)}"
