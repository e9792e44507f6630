"""polars frames and series as Arrow IPC streams, by polars itself: no pyarrow needed on either side."""

from __future__ import annotations

import io
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from isthmus.codec.frame import Buffer

__all__ = ["reducers"]


def reducers() -> dict[type, Any]:
    """Return the reducers of this module by exact type."""
    return {pl.DataFrame: _reduce_frame, pl.Series: _reduce_series}


def _reduce_frame(frame: Any) -> Any:
    if any(isinstance(kind, pl.Object) for kind in frame.dtypes):
        return frame.__reduce_ex__(5)  # has no Arrow form: polars says so itself
    return _load_frame, (_write(frame),)


def _load_frame(data: Buffer) -> Any:
    return _read(data)


def _reduce_series(series: Any) -> Any:
    if isinstance(series.dtype, pl.Object):
        return series.__reduce_ex__(5)
    return _load_series, (_write(series.to_frame()),)


def _load_series(data: Buffer) -> Any:
    return _read(data).to_series(0)


def _write(frame: Any) -> PickleBuffer:
    out = io.BytesIO()
    frame.write_ipc_stream(out, compat_level=pl.CompatLevel.newest())
    return PickleBuffer(out.getbuffer())


def _read(data: Buffer) -> Any:
    # polars reads from files only, so this is the one copy that a frame costs its consumer.
    return pl.read_ipc_stream(io.BytesIO(data))
