"""Arrow objects as Arrow IPC streams: only the rows of a slice travel, and reading copies nothing."""

from __future__ import annotations

from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

import pyarrow as pa

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


def _write(schema: Any, batches: list[Any]) -> PickleBuffer:
    # Measured first, then written once into memory of the right size: growing would copy twice.
    counter = pa.MockOutputStream()
    with pa.ipc.new_stream(counter, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    memory = pa.allocate_buffer(counter.size())
    with pa.ipc.new_stream(pa.FixedSizeBufferWriter(memory), schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return PickleBuffer(memory)


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
