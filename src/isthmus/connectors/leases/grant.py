"""A lease on its way: written and locked, its object about to appear."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.connectors.leases.folder import LeaseFolder
    from isthmus.connectors.leases.terms import Terms

__all__ = ["Grant"]


class Grant:
    """The lease of an object that is about to appear: a context in which it does, or not."""

    def __init__(
        self, folder: LeaseFolder, name: str, identity: int, terms: Terms, fd: int, written: bool
    ) -> None:
        self._folder = folder
        self._identity = identity
        self.name = name
        self.terms = terms
        self.fd = fd
        self.written = written
        self.won = False
        """To be set when the object has appeared."""

    def write(self) -> None:
        """Write the lease."""
        self._folder.write(self.fd, self._identity, self.terms)
        self.written = True

    def __enter__(self) -> Grant:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.settle(self)
