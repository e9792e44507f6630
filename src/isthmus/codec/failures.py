"""An exception on its way to another process, its traceback with it as text."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

from isthmus.errors import RemoteError

__all__ = ["Failure", "RemoteTraceback"]


class RemoteTraceback(Exception):  # noqa: N818 - it is shown, never raised
    """The traceback of another process, as the cause of the exception that it sent."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class Failure:
    """An exception. By reference within a process; otherwise its traceback travels as text.

    An exception that cannot travel, or whose class is not to be had where it arrives, is a
    :class:`~isthmus.errors.RemoteError` there.
    """

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __repr__(self) -> str:
        return repr(self.error)

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        text = "".join(traceback.format_exception(error))
        return _arrived, (_packed(error), type(error).__qualname__, str(error), text)


def _packed(error: BaseException) -> bytes | None:
    from isthmus import codec  # classes of __main__ go by value: a consumer has another one

    with contextlib.suppress(Exception):
        # What makes it, not the exception itself: `distributed` has every exception pickled by tblib,
        # together with its traceback, which a consumer without tblib could not read.
        reduced: Any = error.__reduce_ex__(5)
        make, args, *more = reduced
        return codec.serialize((make, args, more[0] if more else None))
    return None


def _unpacked(blob: bytes) -> Any:
    from isthmus import codec

    make, args, state = codec.deserialize(blob)
    error = make(*args)
    if state is not None:
        error.__setstate__(state)
    return error


def _arrived(blob: bytes | None, kind: str, says: str, text: str) -> Failure:
    error: BaseException = RemoteError(kind, says)
    # Many exception classes pickle and do not unpickle; some are not installed here.
    with contextlib.suppress(Exception):
        if blob is not None and isinstance(loaded := _unpacked(blob), BaseException):
            error = loaded
    error.__cause__ = RemoteTraceback(text)
    return Failure(error)
