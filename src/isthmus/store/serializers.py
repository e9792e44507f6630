"""How a store's objects become bytes, and bytes objects again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus import codec
from isthmus.codec.failures import Failure
from isthmus.errors import CodecError

if TYPE_CHECKING:
    from isthmus.codec import Buffer

__all__ = ["Serializers"]

# Before the failure of a future, which the codec encodes whatever serializer results have.
_FAILED = b"isthmus failed\x8e\xd1"


class Serializers:
    """A serializer and its inverse: the store's own, the codec where it has none.

    Args:
        serializer: turns an object into bytes (or a list of buffers).
        deserializer: its inverse; gets what a connector returns, a bytes-like object.
    """

    __slots__ = ("deserializer", "serializer")

    def __init__(
        self, serializer: codec.Serializer | None, deserializer: codec.Deserializer | None
    ) -> None:
        self.serializer = serializer
        self.deserializer = deserializer

    @property
    def custom(self) -> bool:
        """Whether objects must pass through these, even where a channel could keep them as they are."""
        return self.serializer is not None or self.deserializer is not None

    def encode(self, obj: Any, serializer: codec.Serializer | None = None) -> list[Buffer]:
        """Return an object's buffers; `serializer` is used for this one alone.

        Raises:
            CodecError: the object cannot be serialized.
            TypeError: the serializer returned something else than bytes.
        """
        serializer = serializer or self.serializer
        if type(obj) is Failure:
            return [_FAILED, *codec.encode(obj)]
        if serializer is None:
            return codec.encode(obj)
        data = serializer(obj)
        if isinstance(data, list):
            return data
        if isinstance(data, bytes | bytearray | memoryview):
            return [data]
        raise TypeError(
            f"serializer {getattr(serializer, '__qualname__', serializer)} returned {type(data).__name__}, "
            "not bytes or a list of buffers"
        )

    def decode(self, data: Buffer, deserializer: codec.Deserializer | None = None) -> Any:
        """Return the object of some bytes; `deserializer` is used for these alone.

        A future that failed is a ``Failure`` whatever the deserializer.

        Raises:
            CodecError: the bytes are not an object of ours.
        """
        deserializer = deserializer or self.deserializer
        if deserializer is not None:
            if not _is_failure(data):
                return deserializer(data)
        else:
            try:
                return codec.decode(data)
            except CodecError:
                if not _is_failure(data):
                    raise
        return codec.decode(memoryview(data)[len(_FAILED) :])


def _is_failure(data: Buffer) -> bool:
    return bytes(data[: len(_FAILED)]) == _FAILED
