"""Classes and functions that a consumer cannot import travel whole.

What a script defines is in ``__main__``, and another process has another ``__main__``. Such a thing is
shipped twice: as its name, for a consumer that runs the same script (a child of ``multiprocessing``, a
rank of an MPI job), so that ``isinstance`` there means the class it knows; and by value (cloudpickle), for
every other consumer.
"""

from __future__ import annotations

import sys
from functools import cache
from io import TextIOWrapper
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from isthmus.codec import frame
from isthmus.codec.pickling import Pieces, loads
from isthmus.codec.reducers import dispatch_table, spread
from isthmus.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import PickleBuffer

__all__ = ["by_value_pickler", "load_from_script"]

# A spawned child of multiprocessing knows its parent's script as __mp_main__.
_MAINS = ("__main__", "__mp_main__")


@cache
def by_value_pickler() -> type[Any]:
    """Return the pickler class; made on first use, because cloudpickle takes 20 ms to import."""
    import cloudpickle

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        """Pickles what is in ``__main__`` as described above, everything else as cloudpickle does."""

        def __init__(
            self, file: Any, buffer_callback: Callable[[Any], Any], *, inside: bool = False
        ) -> None:
            self.dispatch_table = {**cloudpickle.Pickler.dispatch_table, **dispatch_table()}
            # cloudpickle would read an open file and make it a StringIO: neither exact nor expected.
            self.dispatch_table.pop(TextIOWrapper, None)
            # C pickle looks for the table now, and not again.
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)
            self.inside = inside

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, type | FunctionType) and obj.__module__ in _MAINS:
                if obj.__module__ == "__mp_main__":
                    # cloudpickle takes it for importable; told so once, it knows better.
                    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])
                script = _script(sys.modules.get(obj.__module__))
                if script and not self.inside and _lookup(obj.__module__, obj.__qualname__) is obj:
                    return load_from_script, (script, obj.__qualname__, *_whole(obj, ByValue))
            return super().reducer_override(obj)

    return ByValue


def _whole(obj: Any, pickler: Callable[..., Any]) -> tuple[bytes | None, str]:
    """Return the object by value, or None and the reason: by name alone it may still do."""
    sink = Pieces()
    buffers: list[PickleBuffer] = []
    try:
        pickler(sink, buffers.append, inside=True).dump(obj)
    except Exception as e:
        return None, f"{type(e).__name__}: {e}"
    return b"".join(frame.pack(frame.Tag.PICKLE, sink.pieces, spread(buffers))), ""


def load_from_script(script: str, qualname: str, whole: bytes | None, reason: str) -> Any:
    """Return what `script` calls `qualname`: this process's own, if it runs that script."""
    for name in _MAINS:
        if (
            _script(sys.modules.get(name)) == script
            and (own := _lookup(name, qualname)) is not None
        ):
            return own
    if whole is None:
        raise CodecError(
            f"{qualname!r} is defined in the script {script} and cannot travel by value",
            f"{reason}; move it to a module that both sides can import",
        )
    # Writable, as the arrays among its globals were.
    return loads(*frame.unpack(bytearray(whole))[1:])


def _script(module: ModuleType | None) -> str | None:
    """Return the file that a main module was run from; None for a notebook or an interpreter."""
    return getattr(module, "__file__", None)


def _lookup(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found
