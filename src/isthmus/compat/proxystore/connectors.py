"""Connectors with ProxyStore's arguments. Elsewhere they are opened as what they are: isthmus's own.

``clear=True`` deletes what the connector's storage holds when the process that asked for it closes the
connector. ProxyStore does so unless told not to; here ``close()`` deletes nothing unless told to.
"""

from __future__ import annotations

import os
import uuid
from typing import Any, TypeVar

from isthmus.connectors import ListableConnector, file, memory, redis
from isthmus.connectors.handle import ConnectorHandle
from isthmus.errors import SpecError

__all__ = ["Clearing", "FileConnector", "LocalConnector", "RedisConnector"]

K = TypeVar("K", bound=tuple[Any, ...])


class Clearing(ConnectorHandle[K]):
    """A connector whose `close` may delete first; see the module's text."""

    _clear: tuple[bool, int] = (False, 0)

    def _told(self, clear: bool) -> None:
        """Remember what this process's caller said."""
        self._clear = clear, os.getpid()

    def close(self, clear: bool | None = None) -> None:
        """Release handles; idempotent.

        Args:
            clear: delete what the storage holds, or do not, whatever was said when it was made.
        """
        if clear is None:
            # A forked child, or a worker that opened the same channel, is not who was told.
            clear = self._clear == (True, os.getpid())
        try:
            if clear and not self._closed and isinstance(self, ListableConnector):
                self.clear()
        finally:
            super().close()


class FileConnector(Clearing[file.FileKey], file.FileConnector):
    """Objects as files of a folder.

    Args:
        store_dir: the folder.
        clear: see the module's text.
        **options: further ones of :class:`isthmus.connectors.file.FileConnector`.
    """

    def __init__(
        self, store_dir: str | os.PathLike[str], clear: bool = False, **options: Any
    ) -> None:
        super().__init__(store_dir, **options)
        self._told(clear)


class RedisConnector(Clearing[redis.RedisKey], redis.RedisConnector):
    """Objects in a Redis server.

    Args:
        hostname: the server's.
        port: the server's.
        clear: see the module's text; touches keys of the connector's prefix only.
        **options: further ones of :class:`isthmus.connectors.redis.RedisConnector`.
    """

    def __init__(
        self, hostname: str = "localhost", port: int = 6379, clear: bool = False, **options: Any
    ) -> None:
        super().__init__(hostname, port, **options)
        self._told(clear)


class LocalConnector(Clearing[memory.MemoryKey], memory.MemoryConnector):
    """Objects in this process's memory, apart from any other such connector's.

    Args:
        store_dict: None: objects do not lie in a dictionary of yours.
        include_data_in_config: False: a configuration carries no data.
        name: of the space; made up if None.
    """

    def __init__(
        self,
        store_dict: dict[Any, bytes] | None = None,
        include_data_in_config: bool = False,
        name: str | None = None,
    ) -> None:
        if store_dict is not None or include_data_in_config:
            raise SpecError(
                "LocalConnector",
                "isthmus keeps objects in memory of its own, not in a dictionary that can be handed over; "
                "leave store_dict and include_data_in_config out, and choose the file or redis connector "
                "for objects that another process is to see",
            )
        super().__init__(name or f"local-{uuid.uuid4().hex[:8]}")
