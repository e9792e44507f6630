"""The least recently used objects of a store, bounded by count and by bytes."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

__all__ = ["Cache"]


class Cache:
    """A thread-safe least-recently-used cache that knows how large its objects are.

    It hands out the objects themselves, not copies: whoever changes one changes it for all. A size
    of zero keeps nothing, so that every caller gets an object of its own.

    Args:
        max_count: objects kept.
        max_bytes: bound on the sum of their sizes; an object larger than that is not kept. None for
            no bound.
    """

    def __init__(self, max_count: int, max_bytes: int | None = None) -> None:
        if max_count < 0 or (max_bytes is not None and max_bytes < 0):
            raise ValueError(
                f"a cache cannot hold {max_count} objects in {max_bytes} bytes; use 0 for none"
            )
        self.max_count = max_count
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._coming: list[set[Hashable]] = []
        # Reentrant: the garbage collector runs finalizers wherever it likes, and they may come back here.
        self._lock = threading.RLock()

    def get(self, key: Hashable, default: Any = None) -> Any:
        """Return the object under `key`, now the most recently used, or `default`."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return default
            self._entries.move_to_end(key)
            return found[0]

    @contextlib.contextmanager
    def coming(self, keys: Iterable[Hashable]) -> Iterator[set[Hashable]]:
        """Yield the keys, less those evicted meanwhile: for `put`, by whoever fetches their objects."""
        fresh = set(keys)
        with self._lock:
            self._coming.append(fresh)
        try:
            yield fresh
        finally:
            with self._lock:
                self._coming = [others for others in self._coming if others is not fresh]

    def put(self, key: Hashable, obj: Any, size: int, fresh: set[Hashable] | None = None) -> None:
        """Keep an object of `size` bytes, dropping the least recently used to make room.

        With `fresh`, which `coming` gave, only if the key is still among them.
        """
        if self.max_count == 0 or (self.max_bytes is not None and size > self.max_bytes):
            self.evict(key)  # what was there is no longer what belongs there
            return
        dropped = []  # destroyed after the lock: a finalizer may come back to this cache
        with self._lock:
            if fresh is not None and key not in fresh:
                return
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[1]
                dropped.append(old)
            self._entries[key] = (obj, size)
            self._bytes += size
            while len(self._entries) > self.max_count or (
                self.max_bytes is not None and self._bytes > self.max_bytes
            ):
                _, last = self._entries.popitem(last=False)
                self._bytes -= last[1]
                dropped.append(last)

    def evict(self, key: Hashable) -> None:
        """Forget an object, and do not keep it if it is coming; no error if it is not kept."""
        with self._lock:
            for fresh in self._coming:
                fresh.discard(key)
            old = self._entries.pop(key, None)
            if old is not None:
                self._bytes -= old[1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for fresh in self._coming:
                fresh.clear()
            entries, self._entries = self._entries, OrderedDict()
            self._bytes = 0
        del entries

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Sum of the sizes of the objects kept."""
        return self._bytes
