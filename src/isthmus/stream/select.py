"""Which items go on: by their metadata, or a part of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from isthmus.errors import SpecError

__all__ = ["Filter", "Selection"]

Filter: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Gets an item's metadata; true keeps the item."""


class Selection:
    """What is kept of a stream: first by filter, then by sample.

    Args:
        filter: keeps the items for whose metadata it is true.
        sample: a fraction below 1 to keep, at random; or an integer, to keep the first of every so many.
        seed: makes the choice repeatable.

    Raises:
        SpecError: a sample that cannot be.
    """

    def __init__(
        self, filter: Filter | None = None, sample: float | int = 1, seed: int | None = None
    ) -> None:
        if sample <= 0 or (sample > 1 and sample != int(sample)):
            raise SpecError(
                "sample",
                f"a fraction up to 1, or an integer n for the first of every n, got {sample!r}",
            )
        self._filter = filter
        self._sample = sample
        self._random = random.Random(seed)
        self._count = -1
        self.all = filter is None and sample == 1
        """Whether everything is kept."""

    def keeps(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether an item goes on."""
        if self._filter is not None and not self._filter(metadata):
            return False
        if self._sample == 1:
            return True
        if self._sample < 1:
            return self._random.random() < self._sample
        self._count += 1
        return self._count % self._sample == 0
