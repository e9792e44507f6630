"""Processes that hold their leases: each has a locked file, which the kernel unlocks when it dies."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

from isthmus.connectors.naming import fresh_name, is_unfinished, made_here
from isthmus.connectors.unfinished import Unfinished, remove, try_lock
from isthmus.forking import renew_after_fork

__all__ = ["Holders"]


class Holders:
    """The holders of one storage, this process among them if it holds any lease.

    Args:
        folder: of the leases.
        clock: `clock_id` of this process.
    """

    def __init__(self, folder: str, clock: str) -> None:
        self._folder = folder
        self._clock = clock
        self._own: Unfinished | None = None
        self._drop: weakref.finalize[[], Holders] | None = None
        self._making = threading.Lock()
        renew_after_fork(self)

    def own(self) -> str:
        """Return the name of the file that says that this process lives."""
        with self._making:
            if self._own is None:
                file = self._own = Unfinished(self._folder, fresh_name(self._clock))
                self._drop = weakref.finalize(self, file.discard)
            return os.path.basename(self._own.path)

    def lives(self, name: str) -> bool:
        """Return whether a process of this host lives and holds its leases."""
        if not is_unfinished(name) or not made_here(name, self._clock):
            return False
        try:
            fd = os.open(f"{self._folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return try_lock(fd, shared=True) is False
        finally:
            os.close(fd)

    def bury(self, name: str) -> None:
        """Delete the file of a process of this host that has died; notes that it was writing, too."""
        if made_here(name, self._clock) and not self.lives(name):
            with contextlib.suppress(OSError):
                remove(f"{self._folder}/{name}")

    def close(self) -> None:
        """Hold nothing any more."""
        self._own = None
        if self._drop is not None:
            self._drop()

    def _forked(self) -> None:
        self._making = threading.Lock()
        # The lock on the file is the parent's, who goes on holding.
        if self._own is not None:
            os.close(self._own.fd)
            self._own = None
        if self._drop is not None:
            self._drop.detach()
            self._drop = None
