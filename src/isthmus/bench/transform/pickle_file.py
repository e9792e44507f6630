"""Objects as pickled files in a folder that every worker sees."""

from __future__ import annotations

import os
import pickle
import shutil
import uuid
from typing import Any, NamedTuple

__all__ = ["FileId", "PickleFileTransformer"]


class FileId(NamedTuple):
    """Where an object lies."""

    path: str
    size: int
    """Bytes."""


class PickleFileTransformer:
    """Pickles each object into a file of its own.

    Args:
        file_dir: the folder; made if it is not there.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, file_dir: str | os.PathLike[str]) -> None:
        self.file_dir = os.path.abspath(file_dir)
        os.makedirs(self.file_dir, exist_ok=True)

    def transform(self, obj: Any) -> FileId:
        """Write an object; the file gets its name when it is complete."""
        path = os.path.join(self.file_dir, uuid.uuid4().hex)
        with open(path + ".part", "xb") as file:
            pickle.dump(obj, file, protocol=5)
            size = file.tell()
        os.rename(path + ".part", path)
        return FileId(path, size)

    def resolve(self, identifier: FileId) -> Any:
        """Read an object.

        Raises:
            FileNotFoundError: `clear` was called, or the folder is not shared with this host.
        """
        with open(identifier.path, "rb") as file:
            return pickle.load(file)

    def size(self, identifier: FileId) -> int:
        """Return the bytes of the file."""
        return identifier.size

    def close(self) -> None:
        """Do nothing: there are no handles. Files stay; `clear` deletes them."""

    def clear(self) -> None:
        """Delete every object and the folder."""
        shutil.rmtree(self.file_dir, ignore_errors=True)
