"""What a test must not leave behind: threads, descriptors, shared memory, child processes."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Snapshot", "no_leaks"]


class Snapshot(NamedTuple):
    """What this process holds at one moment."""

    threads: frozenset[str]
    descriptors: frozenset[str]
    shared_memory: frozenset[str]
    children: frozenset[str]

    @classmethod
    def take(cls) -> Snapshot:
        """Look at this process and at ``/dev/shm``."""
        return cls(
            frozenset(f"{t.name} ({t.ident})" for t in threading.enumerate()),
            frozenset(_descriptors()),
            frozenset(_shared_memory()),
            frozenset(_children()),
        )

    def beyond(self, before: Snapshot) -> dict[str, list[str]]:
        """Return what is here and was not there, by sort."""
        return {
            sort: sorted(extra)
            for sort, now, then in zip(self._fields, self, before, strict=True)
            if (extra := now - then)
        }


@contextlib.contextmanager
def no_leaks(*, patience: float = 2.0, ignore: Iterable[str] = ()) -> Iterator[None]:
    """Fail if the block leaves something behind.

    Args:
        patience: seconds that what is on its way out gets (a joined process, a closing thread).
        ignore: parts of names that may stay, such as a library's global thread.

    Raises:
        AssertionError: names what was left, by sort.
    """
    before = Snapshot.take()
    yield
    deadline = time.monotonic() + patience
    left = _beyond(before, ignore)
    while left:
        if time.monotonic() > deadline:
            raise AssertionError(
                f"left behind: { {s: sorted(names) for s, names in left.items()} }"
            )
        time.sleep(0.01)
        gc.collect()
        # What was gone once is no leak: other programs come and go in /dev/shm all the time.
        now = _beyond(
            before, (*ignore, *_in_use_elsewhere()) if "shared_memory" in left else ignore
        )
        left = {
            sort: both for sort, names in now.items() if (both := names & left.get(sort, set()))
        }


def _beyond(before: Snapshot, ignore: Iterable[str]) -> dict[str, set[str]]:
    parts = tuple(ignore)
    return {
        sort: kept
        for sort, names in Snapshot.take().beyond(before).items()
        if (kept := {n for n in names if not any(part in n for part in parts)})
    }


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        # Without this process's own look at the directory, which is closed by now.
        with contextlib.suppress(OSError):
            yield f"{fd} -> {os.readlink(f'/proc/self/fd/{fd}')}"


def _shared_memory() -> Iterator[str]:
    for folder, _, files in os.walk("/dev/shm"):
        yield from (os.path.join(folder, name) for name in files)


def _in_use_elsewhere() -> tuple[str, ...]:
    """Return the files in memory that other programs have open, and the folders of such files.

    The machine's ``/dev/shm`` is everybody's: another test run must not make this one fail.
    """
    found: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if _ours(int(pid)):
            continue
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps") as maps:
            found.update(line.split(maxsplit=5)[5].strip() for line in maps if "/dev/shm/" in line)
    shared = {path for path in found if path.startswith("/dev/shm/")}
    folders = {os.path.dirname(path) + "/" for path in shared} - {"/dev/shm/"}
    return (*shared, *folders)


def _ours(pid: int) -> bool:
    """Return whether a process is this one or descends from it."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            with open(f"/proc/{pid}/stat") as stat:
                pid = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def _children() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as listing:
            yield from listing.read().split()
