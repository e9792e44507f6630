"""Objects as files of a folder, which may be on a file system that many hosts share.

An object is written beside its place and then renamed, so it is seen whole or not at all. It is *not*
synced: it survives every process, but may not survive a power cut within the kernel's write-back time.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.leases import OFTEN_SECONDS, LeaseFolder, now, stale, terms, upkeep
from isthmus.connectors.mapping import map_private, read
from isthmus.connectors.naming import (
    fresh_name,
    host_id,
    is_name,
    is_unfinished,
    made_here,
    owner,
)
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.polling import poll
from isthmus.connectors.protocol import ObjectInfo
from isthmus.connectors.unfinished import Unfinished, full, remove, try_lock
from isthmus.errors import BrokenError, FullError, KeyTypeError, SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isthmus.connectors.protocol import Buffer, Payload

__all__ = ["FileConnector", "FileKey", "FileSpec"]

_SUFFIX = ".obj"
_MAP_BYTES = 1 << 18  # below, reading is cheaper than mapping and faulting the pages in
_ABANDONED_SECONDS = 3600.0
_HINT = "free some space, evict objects, or choose another folder"


class FileSpec(Spec):
    """Where a `FileConnector` keeps its objects."""

    store_dir: str
    """Folder, made if it does not exist; a relative one, or one of ``~``, becomes absolute."""
    map_files: bool = True
    """Map large objects instead of reading them."""

    def __post_init__(self) -> None:
        # Here, not when the folder is made: a specification may travel before anybody opened it.
        path = os.path.expanduser(self.store_dir)
        if not path or path.startswith("~"):
            # As a path they would be the working directory, and a folder named "~..." in it.
            raise SpecError("file connector", f"store_dir {self.store_dir!r} names no folder")
        path = os.path.abspath(path)
        msgspec.structs.force_setattr(self, "store_dir", path)


class FileKey(NamedTuple):
    """An object in a folder."""

    name: str
    """``host-pid-random``, in hex."""


class _Objects:
    """The files, as those who keep leases see them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def path(self, name: str) -> str:
        return f"{self._folder}/{name}{_SUFFIX}"

    def identity(self, name: str) -> int | None:
        try:
            return os.stat(self.path(name)).st_ino if is_name(name) else None
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> int:
        path = self.path(name)
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:
            return 0
        return size if remove(path) else 0


class FileConnector(ConnectorHandle[FileKey]):
    """Objects as files: they outlive processes, and reach every host that mounts the folder.

    Args:
        store_dir: folder of the objects, made if it does not exist.
        map_files: map large objects instead of reading them: no copy, and pages that nobody touches
            are never read. A mapped object survives its eviction, except where *another host* evicts it
            from a network file system: touching it then kills the process (SIGBUS). Say False there if
            objects may be evicted while in use.

    Raises:
        SpecError: `store_dir` is empty, or the home of nobody.
        BrokenError: the folder cannot be made.
    """

    kind = "file"
    spec_type = FileSpec
    key_type = FileKey

    def __init__(self, store_dir: str | os.PathLike[str], map_files: bool = True) -> None:
        spec = FileSpec(os.fspath(store_dir), map_files)
        super().__init__(spec)
        self._folder = spec.store_dir
        self._objects = _Objects(self._folder)
        self._map_bytes = _MAP_BYTES if map_files else float("inf")
        self._host = host_id()
        try:
            os.makedirs(self._folder, exist_ok=True)
        except OSError as error:
            raise BrokenError(f"folder {self._folder!r}", error.strerror) from None
        self._leases = LeaseFolder(self._folder, self._objects)
        if stale(self._folder, OFTEN_SECONDS):
            upkeep.watch(self, now())

    def put(self, obj: Payload, *, lease: float | None = None, held: bool = False) -> FileKey:
        """Store an object in a file of its own."""
        given = terms(lease, held)
        key = self.reserve()
        path, file = self._path(key), self._write(key, obj)
        if given is None:
            file.publish(path)
        else:

            def publish() -> bool:
                file.publish(path)
                return True

            self._leases.publish(key.name, given, file, publish)
            upkeep.watch(self, now() + given.seconds)
        return key

    def put_batch(
        self, objs: Sequence[Payload], *, lease: float | None = None, held: bool = False
    ) -> _Keys:
        """Store several objects, one after the other."""
        return [self.put(obj, lease=lease, held=held) for obj in objs]

    def get(self, key: FileKey) -> Buffer | None:
        """Return the object: read if it is small, a private mapping if large; both may be written to."""
        fd = self._open(key)
        if fd is None:
            return None
        try:
            size = os.fstat(fd).st_size
            return map_private(fd, size) if size >= self._map_bytes else read(fd, 0, size)
        finally:
            os.close(fd)

    def get_range(self, key: FileKey, offset: int, size: int) -> Buffer | None:
        """Read a part of the object."""
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        fd = self._open(key)
        if fd is None:
            return None
        try:
            return read(fd, offset, min(size, max(0, os.fstat(fd).st_size - offset)))
        finally:
            os.close(fd)

    def exists(self, key: FileKey) -> bool:
        """Return whether an object lies under `key`."""
        fd = self._open(key)
        if fd is None:
            return False
        os.close(fd)
        return True

    def evict(self, key: FileKey) -> None:
        """Delete an object; no error if there is none."""
        self._path(key)
        self._delete(key.name)

    def reserve(self) -> FileKey:
        """Return a fresh key under which nothing lies yet."""
        self._check()
        return FileKey(fresh_name(self._host))

    def put_at(
        self, key: FileKey, obj: Payload, *, lease: float | None = None, held: bool = False
    ) -> bool:
        """Store an object under a reserved key if none lies there (a hard link decides)."""
        given = terms(lease, held)
        path = self._path(key)
        file = self._write(key, obj)
        won = self._leases.publish(key.name, given, file, lambda: file.publish_if_absent(path))
        if won and given is not None:
            upkeep.watch(self, now() + given.seconds)
        return won

    def lease(self, key: FileKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now unless its lease is renewed by then.

        The lease is a file beside the object. Processes of this host time it on the host's clock. A
        process of another host deletes the object when it has seen no renewal for the whole period, on
        its own clock, counted from when it first looked.

        Raises:
            BrokenError: another process has the lease locked, and is suspended.
        """
        given = terms(seconds, held)
        self._path(key)
        found = self._leases.lease(key.name, given)
        if found and given is not None:
            upkeep.watch(self, now() + given.seconds)
        return found

    def renew(self, keys: Sequence[FileKey]) -> _Answers:
        """Begin the period of each object's lease anew."""
        for key in keys:
            self._path(key)
        dues = [self._leases.renew(key.name) for key in keys]
        known = [due for due in dues if due is not None]
        if known:
            upkeep.watch(self, min(known))
        return [due is not None for due in dues]

    def wait(self, key: FileKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`, looking every 0.5 to 5 ms."""
        return poll(lambda: self.exists(key), timeout)

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object in the folder."""
        self._check()
        for name in self._names():
            if (info := self.stat(FileKey(name))) is not None:
                yield info

    def stat(self, key: FileKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        try:
            found = os.stat(self._path(key))
        except FileNotFoundError:
            return None
        until = self._leases.until(key.name)
        return ObjectInfo(key, found.st_size, found.st_mtime, owner(key.name, self._host), until)

    def clear(self) -> int:
        """Delete every object in the folder, and no other file."""
        self._check()
        return sum(self._delete(name) for name in list(self._names()))

    def sweep(self) -> int:
        """Delete what killed writers left unfinished, and what is overdue; return the bytes freed.

        A lock tells whether a writer of this host lives. Another host's writer counts as dead when its
        file has not grown for an hour, by the file server's own clock.
        """
        self._check()
        freed = self._leases.sweep().freed
        server_now: float | None = None
        for name in filter(is_unfinished, os.listdir(self._folder)):
            path = os.path.join(self._folder, name)
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                continue  # finished meanwhile, or another user's
            try:
                free = try_lock(fd)
                if free is None or (free and not made_here(name, self._host)):
                    server_now = self._server_time() if server_now is None else server_now
                    free = server_now - os.fstat(fd).st_mtime > _ABANDONED_SECONDS
                # Not two sweepers, and not a file that was published before we had its lock.
                if free and os.fstat(fd).st_nlink == 1 and remove(path):
                    freed += os.fstat(fd).st_size
                elif free and os.fstat(fd).st_nlink == 2:
                    remove(path)  # linked to its place by a writer killed just then
            finally:
                os.close(fd)
        return freed

    def _sweep_leases(self) -> float | None:
        """Delete what is overdue; return when, on the clock of `now`, the next object will be."""
        self._check()
        return self._leases.sweep().due

    def _delete(self, name: str) -> bool:
        found = remove(self._objects.path(name))
        self._leases.drop(name)
        return found

    def _write(self, key: FileKey, obj: Payload) -> Unfinished:
        flat = pieces(obj)
        try:
            unfinished = Unfinished(self._folder, key.name)
            unfinished.write(flat)
        except OSError as error:
            if full(error):
                raise FullError(f"folder {self._folder!r}", total(flat), _HINT) from None
            raise BrokenError(f"folder {self._folder!r}", error.strerror) from error
        return unfinished

    def _open(self, key: FileKey) -> int | None:
        # Not stat: opening is what makes a network file system ask its server again.
        try:
            return os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BrokenError(f"folder {self._folder!r}", error.strerror) from error

    def _path(self, key: FileKey) -> str:
        self._check(key)
        if not is_name(key.name):
            raise KeyTypeError(type(self).__name__, "FileKey from put() or reserve()", key)
        return self._objects.path(key.name)

    def _names(self) -> Iterator[str]:
        for file in os.listdir(self._folder):
            if file.endswith(_SUFFIX) and is_name(name := file.removesuffix(_SUFFIX)):
                yield name

    def _release(self) -> None:
        upkeep.forget(self)
        self._leases.close()

    def _server_time(self) -> float:
        probe = Unfinished(self._folder, fresh_name(self._host))
        try:
            os.pwrite(probe.fd, b"?", 0)
            return os.fstat(probe.fd).st_mtime
        except OSError:
            return time.time()
        finally:
            probe.discard()


# Named out here: inside the class, `list` is its method.
_Keys: TypeAlias = "list[FileKey]"
_Answers: TypeAlias = "list[bool]"
