"""Whether a server still has users: a thread that waits for the lock that they share."""

from __future__ import annotations

import fcntl
import os
import threading
import time

from isthmus.connectors.leases import now
from isthmus.connectors.unfinished import try_lock

__all__ = ["Presence"]


class Presence(threading.Thread):
    """Waits until no user is left, and stays alone until the process ends.

    Attributes:
        fd: readable when the server has to leave.
        bell: what is written to it makes `fd` readable.
        linger: seconds to stay after the last user, or after the last request of one.
    """

    def __init__(self, path: str) -> None:
        super().__init__(name="isthmus zmq presence", daemon=True)
        self._lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.fd, self.bell = os.pipe()
        os.set_blocking(self.bell, False)
        self.linger = 0.0
        self._used = now()

    def used(self) -> None:
        """Note that a user asked for something."""
        self._used = now()

    def leave(self) -> None:
        """Have the server leave, users or not."""
        os.write(self.bell, b"x")

    def run(self) -> None:
        """Wait."""
        alone = now()
        while True:
            if not try_lock(self._lock):
                fcntl.flock(self._lock, fcntl.LOCK_EX)
                alone = now()
            left = max(alone, self._used) + self.linger - now()
            if left <= 0:
                return self.leave()
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            time.sleep(left)
