"""polars frames and series as Arrow IPC streams, by polars itself: no pyarrow needed on either side."""

from __future__ import annotations

import io
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any
from zlib import crc32

import polars as pl

from isthmus.codec.reducers import Gathered
from isthmus.errors import CodecError

if TYPE_CHECKING:
    from isthmus.codec.frame import Buffer

__all__ = ["reducers"]


def reducers() -> dict[type, Any]:
    """Return the reducers of this module by exact type."""
    return {pl.DataFrame: _reduce_frame, pl.Series: _reduce_series}


def _reduce_frame(frame: Any) -> Any:
    if any(isinstance(kind, pl.Object) for kind in frame.dtypes):
        return frame.__reduce_ex__(5)  # has no Arrow form: polars says so itself
    return _load_frame, _write(frame)


def _reduce_series(series: Any) -> Any:
    if isinstance(series.dtype, pl.Object):
        return series.__reduce_ex__(5)
    return _load_series, _write(series.to_frame())


class _Pieces:
    """A file that keeps what polars writes; one growing buffer would take twice the time."""

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []
        self.check = 0

    def write(self, data: bytes) -> int:
        self.pieces.append(data)
        self.check = crc32(data, self.check)
        return len(data)

    def flush(self) -> None: ...


def _write(frame: Any) -> tuple[PickleBuffer, int]:
    out = _Pieces()
    frame.write_ipc_stream(out, compat_level=pl.CompatLevel.newest())
    return PickleBuffer(Gathered(out.pieces)), out.check


def _load_frame(data: Buffer, check: int) -> Any:
    # A damaged stream makes polars panic, which is no Exception; so it never gets to see one.
    if crc32(data) != check:
        raise CodecError("damaged: the checksum of a polars frame does not match")
    # polars reads from files only: the one copy that a frame costs its consumer.
    return pl.read_ipc_stream(io.BytesIO(data))


def _load_series(data: Buffer, check: int) -> Any:
    return _load_frame(data, check).to_series(0)
