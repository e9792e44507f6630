"""The lifetime of a block of code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.errors import LifetimeError
from isthmus.store.lifetime.collecting import CollectingLifetime

if TYPE_CHECKING:
    from typing import Self

__all__ = ["ContextLifetime"]


class ContextLifetime(CollectingLifetime):
    """Lasts until the end of a ``with`` block, or until it is closed.

    A process that is killed inside of the block leaves the objects behind: a
    :class:`~isthmus.store.lifetime.LeaseLifetime` does not.
    """

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.close()
        except LifetimeError as failed:
            if error is None:
                raise
            # The block's own error is the news, and says what else went wrong.
            for one in failed.exceptions:
                error.add_note(f"{failed.message}: {one!r}")
