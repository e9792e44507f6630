"""How objects of numerical packages become pickles with out-of-band buffers.

A reducer is chosen by the exact type of an object, from the packages that the process has imported
already: an array cannot exist without numpy, so nothing is ever imported to look for one.
"""

from __future__ import annotations

import copyreg
import sys
from contextlib import suppress
from importlib import import_module
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, TypeAlias

from isthmus.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from isthmus.codec.frame import Buffer

    Reducer: TypeAlias = Callable[[Any], Any]

__all__ = ["Gathered", "dispatch_table", "load_view", "reduce_view", "spread"]

_MODULES = {
    "numpy": "isthmus.codec.arrays",
    "torch": "isthmus.codec.tensors",
    "pyarrow": "isthmus.codec.arrow_tables",
    "polars": "isthmus.codec.polars_frames",
}

_ours: dict[type, Reducer] = {}
_taken: set[str] = set()
_users: dict[type, Reducer] = {}
_merged: dict[type, Reducer] = {}


def dispatch_table() -> dict[type, Reducer]:
    """Return reducers by exact type: the user's (``copyreg``), then ours. Do not change it.

    A plain dict, because C pickle looks types up in one without running Python code.
    """
    global _users, _merged
    modules = sys.modules
    stale = copyreg.dispatch_table != _users
    for package, reducers in _MODULES.items():
        # Another thread may be half-way through importing it: next time, then.
        if package not in _taken and _is_ready(modules.get(package)):
            # An installation too old or broken for our reducers has to do with its own.
            with suppress(ImportError, AttributeError):
                _ours.update(import_module(reducers).reducers())
            _taken.add(package)
            stale = True
    if stale or not _merged:
        _users = dict(copyreg.dispatch_table)
        _merged = {memoryview: reduce_view, **_ours, **_users}
    return _merged


class Gathered(bytearray):
    """Stands for one buffer whose bytes lie in several places, until a frame puts them in a row.

    Pickle knows only buffers in one piece; it is handed this empty one, and its pieces are written instead.
    """

    def __init__(self, pieces: list[Buffer]) -> None:
        super().__init__()
        self.pieces = pieces


def spread(buffers: list[PickleBuffer]) -> list[Sequence[Buffer]]:
    """Return each out-of-band buffer as its pieces."""
    out: list[Sequence[Buffer]] = []
    for buffer in buffers:
        raw = buffer.raw()
        out.append(raw.obj.pieces if type(raw.obj) is Gathered else (raw,))
    return out


def _is_ready(module: ModuleType | None) -> bool:
    spec = getattr(module, "__spec__", None)
    return spec is not None and not getattr(spec, "_initializing", False)


def reduce_view(view: memoryview) -> tuple[Any, ...]:
    """Reduce a memoryview to its bytes, format and shape.

    Raises:
        CodecError: the format is none that a memoryview can be cast to.
    """
    try:
        memoryview(b"").cast(view.format)  # type: ignore[call-overload]
    except ValueError:
        raise CodecError(
            f"a memoryview of items {view.format!r} cannot travel", "send the array it is a view of"
        ) from None
    if view.c_contiguous and view.nbytes:
        flat: Any = view.cast("B")
    else:
        # In logical order; a view of that has the same items in the same shape.
        flat = view.tobytes() if view.readonly else bytearray(view.tobytes())
    return load_view, (PickleBuffer(flat), view.format, view.shape)


def load_view(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    """Return a memoryview of `data`; the reverse of :func:`reduce_view`.

    An empty one of several dimensions comes back with one: Python makes no other.
    """
    view: Any = memoryview(data).cast("B")
    if len(shape) == 1 or 0 in shape:
        return view if format == "B" else view.cast(format)  # type: ignore[no-any-return]
    return view.cast(format, shape)  # type: ignore[no-any-return]
