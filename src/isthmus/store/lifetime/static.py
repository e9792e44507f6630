"""The lifetime of the process."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from isthmus.store.lifetime.collecting import CollectingLifetime
from isthmus.store.lifetime.exits import at_exit

if TYPE_CHECKING:
    from typing import Self

__all__ = ["StaticLifetime"]


class StaticLifetime(CollectingLifetime):
    """Lasts until this process ends; there is one, which every call returns.

    Stores may be closed before. A forked child has its own, which begins empty, and never evicts what
    its parent listed. A process that is killed, or ends through ``os._exit``, evicts nothing.

    Closing it earlier evicts what all of the process added to it; the next call returns a new one.
    """

    _current: ClassVar[StaticLifetime | None] = None
    _making: ClassVar[Any] = threading.Lock()
    _registered: int

    def __new__(cls) -> Self:
        """Return the process's own; a new one if it was closed."""
        with cls._making:
            current = cls._current
            if current is None or current.done():
                current = super().__new__(cls)
                CollectingLifetime.__init__(current)
                current._registered = 0
                cls._current = current
            assert isinstance(current, cls)
            return current

    def __init__(self) -> None:
        """Begin nothing: `__new__` has, once."""

    def _check_open(self) -> None:
        super()._check_open()
        if self._registered != os.getpid():  # once, by whoever adds first
            self._registered = os.getpid()
            at_exit(self.close)


def _in_child() -> None:
    StaticLifetime._making = threading.Lock()


os.register_at_fork(after_in_child=_in_child)
