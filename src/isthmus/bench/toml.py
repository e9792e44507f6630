"""Writing TOML: what a configuration needs of it (tables, strings, numbers, booleans, arrays)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["dumps"]


def dumps(contents: Mapping[str, Any]) -> str:
    """Return a document that ``tomllib.loads`` reads back equal.

    Raises:
        TypeError: a value has no form in TOML, None for one.
    """
    return "\n".join(_table(contents, ())).lstrip("\n") + "\n"


def _table(contents: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    values = {k: v for k, v in contents.items() if not isinstance(v, dict)}
    tables = {k: v for k, v in contents.items() if isinstance(v, dict)}
    if path and (values or not tables):
        yield f"\n[{'.'.join(map(_key, path))}]"
    for name, value in values.items():
        yield f"{_key(name)} = {_value(value)}"
    for name, value in tables.items():
        yield from _table(value, (*path, name))


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _string(name)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value)  # nan and inf are TOML as well
        case str():
            return _string(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case dict():
            return f"{{{', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())}}}"
    raise TypeError(f"{value!r} of type {type(value).__name__} has no form in TOML")


def _string(text: str) -> str:
    # JSON's escapes are TOML's, apart from DEL, and from pairs for what is beyond 16 bits.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
