"""Arrow objects as Arrow IPC streams: only the rows of a slice travel, and nothing is copied either way."""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from isthmus.codec.reducers import Gathered
from isthmus.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isthmus.codec.frame import Buffer

__all__ = ["reducers"]


def reducers() -> dict[type, Any]:
    """Return the reducers of this module by exact type."""
    arrays = dict.fromkeys(_concrete(pa.Array), _reduce_array)
    return {
        **arrays,
        pa.Table: _reduce_table,
        pa.RecordBatch: _reduce_batch,
        pa.ChunkedArray: _reduce_chunked,
    }


def _concrete(cls: type) -> Iterator[type]:
    subclasses: list[type] = cls.__subclasses__()
    for sub in subclasses:
        yield sub
        yield from _concrete(sub)


class _Pieces:
    """A file for Arrow's writer, which hands over its buffers without copying them."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []
        self.length = 0

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.pieces.append(view)
        self.length += len(view)
        return len(view)

    def tell(self) -> int:
        return self.length

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _write(schema: Any, batches: list[Any]) -> PickleBuffer:
    out = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(out, mode="w"), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return PickleBuffer(Gathered(out.pieces))


def _read(data: Buffer) -> tuple[Any, list[Any]]:
    """Return the stream's schema and batches, over `data`."""
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(data))
        batches = list(reader)
        for batch in batches:
            # Offsets that point outside their buffer would crash who reads the strings; numbers are free.
            batch.validate(full=True)
    except (pa.ArrowException, OSError) as e:
        raise CodecError("damaged: not an Arrow stream", e) from e
    return reader.schema, batches


def _reduce_table(table: Any) -> Any:
    return _load_table, (_write(table.schema, table.to_batches()),)


def _load_table(data: Buffer) -> Any:
    schema, batches = _read(data)
    return pa.Table.from_batches(batches, schema)


def _reduce_batch(batch: Any) -> Any:
    return _load_batch, (_write(batch.schema, [batch]),)


def _load_batch(data: Buffer) -> Any:
    return _only(_read(data)[1])


def _only(batches: list[Any]) -> Any:
    if len(batches) != 1:
        raise CodecError(f"damaged: {len(batches)} Arrow batches where there was one")
    return batches[0]


def _column(chunks: list[Any], kind: Any) -> PickleBuffer:
    schema = pa.schema([pa.field("0", kind)])
    return _write(schema, [pa.RecordBatch.from_arrays([chunk], schema=schema) for chunk in chunks])


def _reduce_array(array: Any) -> Any:
    return _load_array, (_column([array], array.type),)


def _load_array(data: Buffer) -> Any:
    return _only(_read(data)[1]).column(0)


def _reduce_chunked(array: Any) -> Any:
    return _load_chunked, (_column(array.chunks, array.type),)


def _load_chunked(data: Buffer) -> Any:
    schema, batches = _read(data)
    return pa.chunked_array([batch.column(0) for batch in batches], schema.field(0).type)
