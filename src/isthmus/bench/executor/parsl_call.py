"""What crosses between a Parsl client and its workers: calls and results as bytes of isthmus's codec.

Parsl sees bytes only. So it looks into no argument (and resolves no proxy), its slow pickler has nothing
to do, what a script defines travels by value with what it uses, and a result that only other tasks need
is never unpickled on the client.
"""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.bench.nested import replace
from isthmus.codec import decode, encode, join

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Input", "Report", "Value", "execute_packed", "filled", "pack", "run_packed"]


class Input(NamedTuple):
    """Stands in a call's arguments for the result of a task."""

    number: int


def pack(obj: Any) -> bytes:
    """Return an object as bytes.

    Raises:
        Exception: it cannot be pickled.
    """
    return bytes(join(encode(obj)))


def unpack(blob: bytes) -> Any:
    """Return the object; arrays in it are its own, and can be written to."""
    return decode(bytearray(blob))


def filled(arg: Any, inputs: tuple[Any, ...]) -> Any:
    """Return an argument with results where inputs stand."""
    return replace(arg, Input, lambda place: inputs[place.number])


class Value:
    """A result: as it came until somebody asks for it, then the object alone."""

    __slots__ = ("_blob", "_obj", "_unpacking")

    def __init__(self, blob: bytes) -> None:
        self._blob: bytes | None = blob
        self._obj: Any = None
        self._unpacking = threading.Lock()

    def get(self) -> Any:
        """Return the object, always the same one, whichever threads ask at once."""
        with self._unpacking:
            if self._blob is not None:
                self._obj = unpack(self._blob)
                self._blob = None
            return self._obj

    def packed(self) -> bytes:
        """Return bytes for the next task."""
        blob = self._blob
        return pack(self._obj) if blob is None else blob


_here = threading.local()


class Report:
    """Runs on the worker: what was measured goes beside the result, not inside."""

    def __call__(self, info: tuple[Any, ...]) -> None:
        """Keep it for the task that this thread runs."""
        _here.info = info


def execute_packed(payload: bytes) -> tuple[bytes, tuple[Any, ...] | None]:
    """Run what `WatchedHTEX.submit` sent: the pickled arguments of `run_packed`."""
    return run_packed(*pickle.loads(payload))


def run_packed(call: bytes, *inputs: bytes) -> tuple[bytes, tuple[Any, ...] | None]:
    """Run a call in a worker; return its packed result, and what it reported of itself."""
    function: Callable[..., Any]
    function, args, kwargs = unpack(call)
    if inputs:
        values = tuple(map(unpack, inputs))
        args = tuple(filled(arg, values) for arg in args)
        kwargs = {name: filled(arg, values) for name, arg in kwargs.items()}
    _here.info = None
    return pack(function(*args, **kwargs)), _here.info
