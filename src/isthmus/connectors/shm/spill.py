"""Objects that found no room in memory: files on disk, reached through symbolic links in the area.

The link has the object's name, so making it decides who is first under a reserved key, just as a hard
link does for an object in memory; and no reader needs to know which of the two it finds.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING

from isthmus.connectors.naming import is_unfinished, made_here
from isthmus.connectors.shm.area import private_folder
from isthmus.connectors.unfinished import Unfinished, remove, try_lock
from isthmus.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.connectors.leases import LeaseFolder, Terms
    from isthmus.connectors.shm.area import Area

__all__ = ["Spill"]


class Spill:
    """The folder on disk of an area; made when it is first needed.

    Args:
        area: where the links are.
        name: the area's.
        spill_dir: where to make the folder; None for the place of temporary files.

    Raises:
        SpecError: the area spills to another place already.
    """

    def __init__(self, area: Area, name: str, spill_dir: str | None) -> None:
        self._area = area
        top = os.path.abspath(spill_dir or tempfile.gettempdir())
        self._folder = os.path.join(top, f"isthmus-{os.getuid()}-{name}")
        self._link = os.path.join(area.folder, "spill")
        # One place for all processes, whatever their TMPDIR: that of the first.
        with contextlib.suppress(FileExistsError):
            os.symlink(self._folder, self._link)
        there = os.readlink(self._link)
        if spill_dir is not None and there != self._folder:
            raise SpecError(
                f"shared memory {name!r}",
                f"it spills to {os.path.dirname(there)!r} already, not to {top!r}; use another name",
            )
        self._folder = there

    @property
    def place(self) -> str:
        """The folder's path."""
        return self._folder

    def store(
        self,
        name: str,
        pieces: Sequence[bytes | memoryview],
        leases: LeaseFolder,
        given: Terms | None,
    ) -> bool:
        """Write an object to disk and link it; False if one of its name exists already."""
        os.makedirs(os.path.dirname(self._folder), exist_ok=True)
        private_folder(self._folder)
        file = Unfinished(self._folder, name, 0o600)
        file.write(pieces)
        return leases.publish(name, given, file, lambda: self._link_to(file, name))

    def _link_to(self, file: Unfinished, name: str) -> bool:
        try:
            file.keep()
            # It keeps its unfinished name: what makes it complete is the link.
            os.symlink(f"spill/{os.path.basename(file.path)}", self._area.path(name))
        except BaseException as error:
            file.discard()
            if isinstance(error, FileExistsError):
                return False
            raise
        file.release()
        return True

    def evict(self, name: str) -> None:
        """Delete a spilled object."""
        path = self._area.path(name)
        with contextlib.suppress(OSError):  # evicted by another, or replaced by an object in memory
            file = os.readlink(path)
            os.unlink(path)
            remove(os.path.join(self._folder, os.path.basename(file)))

    def sweep(self) -> int:
        """Delete files that no link leads to and no live process is writing; return the bytes freed."""
        freed = 0
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return 0
        for name in names:
            # Containers that share the place of temporary files need not share memory.
            if not is_unfinished(name) or not made_here(name, self._area.host):
                continue
            path = os.path.join(self._folder, name)
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if try_lock(fd) and not self._linked(name) and remove(path):
                        freed += os.fstat(fd).st_size
                finally:
                    os.close(fd)
        return freed

    def _linked(self, file: str) -> bool:
        link = self._area.path(file[1:].partition(".")[0])
        try:
            return os.readlink(link) == f"spill/{file}"
        except OSError:
            return False
