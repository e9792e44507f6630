"""Fresh state for a forked child, in whatever holds locks, descriptors or a process's identity."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Forkable(Protocol):
    def _forked(self) -> None: ...


_known: weakref.WeakSet[_Forkable] = weakref.WeakSet()


def renew_after_fork(obj: _Forkable) -> None:
    """Have ``obj._forked()`` called in every child forked from now on, for as long as `obj` lives."""
    _known.add(obj)


def _in_child() -> None:
    for obj in list(_known):
        obj._forked()


os.register_at_fork(after_in_child=_in_child)
