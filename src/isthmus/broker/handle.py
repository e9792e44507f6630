"""What every broker's handle does the same way: configuration, closing, and what it refuses."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from isthmus.errors import ClosedError, FullError, PayloadError, SpecError
from isthmus.spec import Plugin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from isthmus.broker.protocol import Log
    from isthmus.spec import Spec

__all__ = [
    "ACK_WAIT",
    "BrokerHandle",
    "as_bytes",
    "check_group",
    "check_name",
    "check_read",
    "check_room",
    "within",
]

ACK_WAIT = 30.0
"""Seconds to acknowledge a record, where nobody says how many."""

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class BrokerHandle(Plugin, ABC):
    """The backend-independent part of a broker.

    A subclass sets `kind`, `spec_type`, `durability` and `atomic`, takes the spec's fields as its
    constructor's arguments, and calls `_check` first in each operation.
    """

    kind: ClassVar[str]
    durability: ClassVar[str]
    atomic: ClassVar[bool] = True

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self._closed = False

    @abstractmethod
    async def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""

    async def open(
        self, name: str, *, max_records: int | None = None, max_bytes: int | None = None
    ) -> Log:
        """Return a log, made if there is none of this name."""
        self._check()
        check_name("log", name)
        for field, bound in (("max_records", max_records), ("max_bytes", max_bytes)):
            if bound is not None and bound < 1:
                raise SpecError(f"log {name!r}", f"{field} must be at least 1, got {bound}")
        return await self._open_log(name, max_records, max_bytes)

    @abstractmethod
    async def _open_log(self, name: str, max_records: int | None, max_bytes: int | None) -> Log: ...

    async def aclose(self) -> None:
        """Release handles; idempotent; deletes nothing."""
        if not self._closed:
            self._closed = True
            await self._release()

    async def _release(self) -> None:
        """Give handles back; called once."""

    def _check(self) -> None:
        """Refuse a closed handle.

        Raises:
            ClosedError: `aclose` was called.
        """
        if self._closed:
            raise ClosedError(repr(self))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def check_name(what: str, name: str) -> None:
    """Refuse a name that not every backend could keep.

    Raises:
        SpecError: says what a name is made of.
    """
    given: object = name
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise SpecError(
            what, f"a name has 1 to 128 ASCII letters, digits, and any of . _ : -, got {name!r}"
        )


def check_group(name: str, ack_wait: float | None) -> None:
    """Refuse a group that cannot be.

    Raises:
        SpecError: its name, or the time that its consumers have.
    """
    check_name("group", name)
    if ack_wait is not None and not 0 < ack_wait < 1e9:
        raise SpecError(f"group {name!r}", f"ack_wait must be positive seconds, got {ack_wait}")


def check_read(limit: int, consumer: str = "-") -> None:
    """Refuse a read that cannot be.

    Raises:
        SpecError: the limit, or the name of the consumer.
    """
    check_name("consumer", consumer)
    if limit < 1:
        raise SpecError("read", f"limit must be at least 1, got {limit}")


def as_bytes(items: Sequence[bytes]) -> list[bytes]:
    """Return the items of an append as what every backend takes.

    Raises:
        PayloadError: one is not bytes-like.
    """
    if isinstance(items, bytes | bytearray | memoryview | str):
        raise PayloadError(type(items).__name__, "append takes a list of records, each bytes")
    out = []
    for item in items:
        if not isinstance(item, bytes | bytearray | memoryview):
            raise PayloadError(type(item).__name__, "a record is bytes, encode it first")
        out.append(item if type(item) is bytes else bytes(item))
    return out


def check_room(
    where: str,
    items: Sequence[bytes],
    records: int,
    size: int,
    max_records: int | None,
    max_bytes: int | None,
) -> None:
    """Refuse what a log of `records` records and `size` bytes has no room for.

    Raises:
        FullError: says how full it is.
    """
    need = sum(map(len, items))
    if max_records is not None and records + len(items) > max_records:
        held = f"it keeps {records} of at most {max_records} records"
    elif max_bytes is not None and size + need > max_bytes:
        held = f"it keeps {size} of at most {max_bytes} bytes"
    else:
        return
    raise FullError(where, need, f"{held}: trim it, or wait until others have")


def within(sizes: Iterable[int], max_bytes: int) -> int:
    """Return how many of these, from the first on, fit; the first always does."""
    count = total = 0
    for size in sizes:
        total += size
        if count and total > max_bytes:
            break
        count += 1
    return count
