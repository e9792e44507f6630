"""How a store's objects become bytes, and bytes objects again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus import codec

if TYPE_CHECKING:
    from isthmus.codec import Buffer

__all__ = ["Serializers"]


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

        Raises:
            CodecError: the bytes are not an object of ours.
        """
        return (deserializer or self.deserializer or codec.decode)(data)
