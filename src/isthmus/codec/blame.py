"""Which part of an object cannot become bytes, and what to do about it."""

from __future__ import annotations

import io
from reprlib import repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["blame"]

_DEPTH = 20
_WIDTH = 1000
_ADVICE = {
    "generator": "make a list of it",
    "module": "import it where it is used",
    "TextIOWrapper": "pass the path and open it where it is used",
    "BufferedReader": "pass the path and open it where it is used",
    "BufferedWriter": "pass the path and open it where it is used",
    "socket": "connect where it is used",
    "lock": "make it where it is used",
    "RLock": "make it where it is used",
    "Thread": "start it where it is used",
}
_GENERAL = "leave it out in __getstate__ or __reduce__, or give the store a serializer"


def blame(obj: Any, error: BaseException) -> tuple[str, str]:
    """Return what cannot be pickled, with its path inside `obj`, and the reason with advice."""
    if isinstance(error, RecursionError) or "recursion" in str(error):
        return f"a {_name(obj)} is nested too deeply to pickle", "make it flatter"
    path, part, why = _descend(obj, error)
    where = f"{path} of a {_name(obj)}" if path else f"a {_name(obj)}"
    what = f" ({_name(part)})" if path else ""
    advice = _ADVICE.get(type(part).__name__, _GENERAL)
    return f"cannot serialize {where}{what}", f"{type(why).__name__}: {why}; {advice}"


def _descend(obj: Any, error: BaseException) -> tuple[str, Any, BaseException]:
    path = ""
    seen = {id(obj)}
    for _ in range(_DEPTH):
        for step, part in _parts(obj):
            if id(part) not in seen and (why := _failure(part)) is not None:
                seen.add(id(part))
                path, obj, error = path + step, part, why
                break
        else:
            break
    return path, obj, error


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield what an object is made of, as far as that can be told, with how to reach it."""
    if isinstance(obj, dict):
        for key, value in list(obj.items())[:_WIDTH]:
            yield f"[{repr(key)}]", value
            yield f" key {repr(key)}", key
    elif isinstance(obj, list | tuple | set | frozenset):
        for i, item in enumerate(list(obj)[:_WIDTH]):
            yield f"[{i}]", item
    if isinstance(obj, type):
        return
    for name, value in list(getattr(obj, "__dict__", {}).items()):
        yield f".{name}", value
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                yield f".{name}", getattr(obj, name)
            except Exception:
                continue  # not set, or a descriptor that does not like to be asked
    cells = getattr(obj, "__closure__", None) or ()
    for name, cell in zip(
        getattr(getattr(obj, "__code__", None), "co_freevars", ()), cells, strict=False
    ):
        try:
            yield f" variable {name!r}", cell.cell_contents
        except ValueError:
            continue


def _failure(part: Any) -> BaseException | None:
    from isthmus.codec.by_value import by_value_pickler

    try:
        by_value_pickler()(io.BytesIO(), lambda _: None).dump(part)
    except Exception as e:
        return e
    return None


def _name(obj: Any) -> str:
    kind = type(obj)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
