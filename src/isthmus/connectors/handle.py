"""What every connector's handle does the same way: checks, closing, configuration, batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from isthmus.errors import ClosedError, KeyTypeError
from isthmus.spec import Plugin

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from isthmus.connectors.protocol import Buffer, Payload
    from isthmus.spec import Spec

__all__ = ["ConnectorHandle"]

K = TypeVar("K", bound=tuple[Any, ...])
_NO_KEY = object()  # not None, which a caller may have taken for a key


class ConnectorHandle(Plugin, ABC, Generic[K]):
    """The channel-independent part of a connector; a subclass adds ``put get exists evict``.

    A subclass sets `kind`, `spec_type` and `key_type`, takes the spec's fields as its constructor's
    arguments, hands the spec to this constructor, and calls `_check` first in each operation.
    """

    kind: ClassVar[str]
    key_type: ClassVar[type[tuple[Any, ...]]]

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._closed = False

    @abstractmethod
    def put(self, obj: Payload) -> K:
        """Store an object."""

    @abstractmethod
    def get(self, key: K) -> Buffer | None:
        """Return the object's bytes, or None."""

    @abstractmethod
    def exists(self, key: K) -> bool:
        """Return whether a complete object lies under `key`."""

    @abstractmethod
    def evict(self, key: K) -> None:
        """Delete an object; no error if there is none."""

    def put_batch(self, objs: Sequence[Payload]) -> list[K]:
        """Store several objects, one after the other."""
        return [self.put(obj) for obj in objs]

    def get_batch(self, keys: Sequence[K]) -> list[Buffer | None]:
        """Return the objects under several keys, one after the other."""
        return [self.get(key) for key in keys]

    def close(self) -> None:
        """Release handles; idempotent; deletes no data."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _release(self) -> None:
        """Give handles back; called once."""

    def _check(self, key: object = _NO_KEY) -> None:
        """Refuse a closed handle and another connector's key.

        Raises:
            ClosedError: `close` was called.
            KeyTypeError: `key` is given and is not a `key_type`.
        """
        if self._closed:
            raise ClosedError(repr(self))
        if key is not _NO_KEY and type(key) is not self.key_type:
            raise KeyTypeError(type(self).__name__, self.key_type.__name__, key)
