"""What a test must not leave behind: threads, descriptors, shared memory, child processes."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from isthmus.connectors.shm.area import root

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
        """Look at this process, and at all that lies where shared memory is (``ISTHMUS_SHM_DIR``)."""
        return cls(
            frozenset(f"{t.name} ({t.ident})" for t in threading.enumerate()),
            frozenset(_descriptors()),
            frozenset(_tree(root())),
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
    while True:
        gc.collect()
        left = {
            sort: kept
            for sort, names in Snapshot.take().beyond(before).items()
            if (kept := [n for n in names if not any(part in n for part in ignore)])
        }
        if not left:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.01)


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        # Without this process's own look at the directory, which is closed by now.
        with contextlib.suppress(OSError):
            yield f"{fd} -> {os.readlink(f'/proc/self/fd/{fd}')}"


def _tree(top: str) -> Iterator[str]:
    for folder, folders, files in os.walk(top):
        yield from (os.path.join(folder, name) for name in files)
        if not folders and not files:
            yield folder


def _children() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/children") as listing:
            yield from listing.read().split()
