"""Any object to pickle pieces and out-of-band buffers, by reference where the consumer can import it.

The C pickler does the work. Only when its output names ``__main__``, or when it gives up on something
local, the object is pickled again by :class:`ByValue`, which ships such classes and functions whole.
"""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING, Any

from isthmus.codec.reducers import dispatch_table, spread
from isthmus.errors import CodecError, IsthmusError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.codec.frame import Buffer

__all__ = ["dumps", "loads"]

# How pickle spells the modules that mean something else in every process: a string opcode, a length, the
# name, a memo opcode. Looked for in this form, a text that speaks of __main__ does not match.
_MAINS = (b"\x8c\x08__main__\x94", b"\x8c\x0b__mp_main__\x94")
_HINT = b"_main__\x94"  # one search in place of two, 0.3 ms per MB
_LONGEST_FRAME = 1 << 17


class Pieces:
    """A file for C pickle that keeps what is written as a list, long bytes by reference."""

    __slots__ = ("pieces", "write")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.write = self.pieces.append


def dumps(obj: Any) -> tuple[list[bytes], list[Sequence[Buffer]]]:
    """Return the pickle of an object, in pieces, and its out-of-band buffers, each in pieces too.

    Raises:
        CodecError: something in the object can be pickled neither by reference nor by value.
    """
    sink = Pieces()
    buffers: list[pickle.PickleBuffer] = []
    pickler = pickle.Pickler(sink, 5, buffer_callback=buffers.append)
    pickler.dispatch_table = dispatch_table()
    try:
        pickler.dump(obj)
    except (IsthmusError, MemoryError):
        raise  # an object that refuses to travel says itself what to do
    except Exception:
        return _dumps_by_value(obj)
    if _names_main(sink.pieces):
        return _dumps_by_value(obj)
    return sink.pieces, spread(buffers)


def loads(metadata: memoryview, buffers: list[memoryview]) -> Any:
    """Return the object; its arrays are views of `buffers`.

    Raises:
        CodecError: a module or attribute it needs is not here, or its own code failed.
    """
    try:
        return pickle.loads(metadata, buffers=buffers)
    except (IsthmusError, MemoryError):
        raise
    except ImportError as e:
        raise CodecError(
            "the object needs a module that this process cannot import", f"{e}; install it here"
        ) from e
    except Exception as e:
        raise CodecError("the object cannot be rebuilt here", f"{type(e).__name__}: {e}") from e


def _names_main(pieces: list[bytes]) -> bool:
    declared: list[bytes] = []
    if (cloudpickle := sys.modules.get("cloudpickle")) is not None:
        # Modules that the user has declared to be unknown to consumers.
        declared = [name.encode() for name in cloudpickle.list_registry_pickle_by_value()]
    for piece in pieces:
        if len(piece) > _LONGEST_FRAME:
            continue  # a single long string
        if _HINT in piece and any(spelled in piece for spelled in _MAINS):
            return True
        if any(name in piece for name in declared):
            return True
    return False


def _dumps_by_value(obj: Any) -> tuple[list[bytes], list[Sequence[Buffer]]]:
    from isthmus.codec.by_value import by_value_pickler

    sink = Pieces()
    buffers: list[pickle.PickleBuffer] = []
    try:
        by_value_pickler()(sink, buffers.append).dump(obj)
    except (IsthmusError, MemoryError):
        raise
    except Exception as e:
        from isthmus.codec.blame import blame

        raise CodecError(*blame(obj, e)) from e
    return sink.pieces, spread(buffers)
