"""What `put` accepts, as a list of flat pieces that a channel can write without joining them."""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from isthmus.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isthmus.connectors.protocol import Payload

__all__ = ["immutable", "pieces", "total"]


def pieces(obj: Payload) -> list[bytes | memoryview]:
    """Return the payload's pieces as ``bytes`` or flat byte views; copies nothing, drops empty ones.

    Raises:
        PayloadError: a piece is no buffer, or not C-contiguous.
    """
    if type(obj) is bytes:
        return [obj] if obj else []
    many: Iterable[Any] = obj if isinstance(obj, list | tuple) else (obj,)
    return [flat for piece in many if len(flat := _flat(piece))]


def total(flat: Iterable[bytes | memoryview]) -> int:
    """Return the number of bytes in what `pieces` returned."""
    return sum(map(len, flat))


def immutable(piece: bytes | memoryview) -> bool:
    """Return whether nobody can change these bytes: they are, or are a view of, a ``bytes`` object."""
    return type(piece) is bytes or (piece.readonly and type(piece.obj) is bytes)  # type: ignore[union-attr]


def _flat(piece: Any) -> bytes | memoryview:
    if type(piece) is bytes:
        return piece
    try:
        view = memoryview(piece)
    except TypeError:
        raise PayloadError(type(piece).__name__, "it is not a buffer of bytes") from None
    if not view.c_contiguous:
        raise PayloadError(type(piece).__name__, "its memory is not C-contiguous")
    if view.ndim == 1 and view.format == "B":
        return view
    # Not memoryview.cast: it knows only single-letter formats and refuses shapes that contain a zero.
    return PickleBuffer(view).raw() if view.nbytes else b""
