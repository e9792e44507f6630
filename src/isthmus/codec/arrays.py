"""numpy arrays: raw memory out of band, with the exact type and byte layout."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from isthmus.errors import CodecError

if TYPE_CHECKING:
    from isthmus.codec.frame import Buffer

__all__ = ["SIMPLE_KINDS", "decode_array", "encode_array", "reducers"]

SIMPLE_KINDS = frozenset("biufc")
"""Kinds of dtype that their short string (``<f8``) says everything about."""

SMALL = 4096
"""Bytes; below this a padded, separate buffer costs more than a copy."""


def reducers() -> dict[type, Any]:
    """Return the reducers of this module by exact type."""
    return {
        np.ndarray: reduce_array,
        np.matrix: _reduce_subclass,
        np.recarray: _reduce_subclass,
        np.memmap: _reduce_subclass,
        np.ma.MaskedArray: _reduce_masked,
    }


def encode_array(array: np.ndarray[Any, Any]) -> tuple[bytes, memoryview] | None:
    """Return the metadata and memory of a plain array; None if only pickle does it justice."""
    dtype = array.dtype
    if dtype.kind not in SIMPLE_KINDS or dtype.metadata is not None:
        return None
    flags = array.flags
    order = "C"
    if not flags.c_contiguous:
        if flags.f_contiguous:
            order = "F"
        else:
            array = np.ascontiguousarray(array)
    return _describe(dtype, array.shape, order), PickleBuffer(array).raw()  # type: ignore[arg-type]


def decode_array(metadata: memoryview, memory: memoryview) -> np.ndarray[Any, Any]:
    """Return an array over `memory`, writable if that is.

    Raises:
        CodecError: type and shape do not fit the memory.
    """
    try:
        shape, dtype, order, size = _parse(bytes(metadata))
        if size != len(memory):
            raise ValueError(f"{size} bytes expected, {len(memory)} found")
        return np.ndarray(shape, dtype, memory, order=order)
    except (ValueError, TypeError, IndexError, SyntaxError) as e:  # numpy parses "02f8" as Python
        raise CodecError("an array's type and shape do not fit its memory", e) from e


# Programs move many arrays of few shapes: remembering the text of these saves two microseconds each way.
@lru_cache(maxsize=1024)
def _describe(dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> bytes:
    return f"{order}{dtype.str},{','.join(map(str, shape))}".encode()


@lru_cache(maxsize=1024)
def _parse(metadata: bytes) -> tuple[tuple[int, ...], np.dtype[Any], Literal["C", "F"], int]:
    head, *dims = metadata.decode("ascii").split(",")
    dtype = np.dtype(head[1:])
    if dtype.kind not in SIMPLE_KINDS:
        raise ValueError(f"unexpected type {dtype}")
    if not dims:
        raise ValueError("no shape")
    shape = tuple(map(int, dims)) if dims != [""] else ()
    return shape, dtype, "F" if head[0] == "F" else "C", dtype.itemsize * prod(shape)


def reduce_array(array: np.ndarray[Any, Any]) -> Any:
    """Reduce an array whose items are plain memory; numpy's own way for those with objects."""
    dtype = array.dtype
    if dtype.hasobject or dtype.itemsize == 0:
        return array.__reduce_ex__(5)
    order = "C"
    if not array.flags.c_contiguous:
        if array.flags.f_contiguous:
            array, order = array.T, "F"
        else:
            array = np.ascontiguousarray(array)
    # As bytes: datetimes and some records refuse to export a buffer themselves.
    flat = array.reshape(-1).view(np.uint8)
    data: Any
    if array.nbytes < SMALL:
        data = bytearray(flat.data)
    else:
        data = PickleBuffer((flat if flat.flags.writeable else np.asarray(_Unlocked(flat))).data)
    kind = dtype.str if dtype.kind in SIMPLE_KINDS and dtype.metadata is None else dtype
    shape = array.shape if order == "C" else array.shape[::-1]
    return load_array, (data, kind, shape, order)


class _Unlocked:
    """The memory of a read-only array as writable, which nobody does: pickle notes that a buffer is
    read-only and would make the consumer's array so, even if the consumer has the memory to itself.
    """

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        interface = array.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def load_array(
    data: Buffer, dtype: Any, shape: tuple[int, ...], order: Any
) -> np.ndarray[Any, Any]:
    """Return an array over `data`; the reverse of :func:`reduce_array`."""
    return np.ndarray(shape, dtype, data, order=order)


def _reduce_subclass(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.hasobject:
        return array.__reduce_ex__(5)
    return _load_subclass, (type(array), np.ndarray.view(array, np.ndarray))


def _load_subclass(cls: type[np.ndarray[Any, Any]], array: np.ndarray[Any, Any]) -> Any:
    return array.view(cls)


def _reduce_masked(array: Any) -> Any:
    # numpy's own drops a hard mask and spells out one that is not there.
    if array.dtype.hasobject or array.dtype.names:
        return array.__reduce_ex__(5)
    mask = None if array.mask is np.ma.nomask else array.mask
    return _load_masked, (array.data, mask, array._fill_value, array.hardmask)


def _load_masked(data: Any, mask: Any, fill: Any, hard: bool) -> Any:
    mask = np.ma.nomask if mask is None else mask
    return np.ma.MaskedArray(data, mask=mask, fill_value=fill, hard_mask=hard, copy=False)
