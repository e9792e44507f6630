"""What stands in for a foreign package: a table of its modules and names, each with ours beside it."""

from __future__ import annotations

import importlib

TYPE_CHECKING = (
    False  # read whenever an interpreter starts with ISTHMUS_COMPAT: typing is not cheap
)
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALIASES", "Alias", "load_alias"]


class Alias:
    """The tree of a package as our names for its names.

    Args:
        name: the foreign package.
        version: what its ``__version__`` says, since programs compare it.
        modules: dotted module below the package (the package itself is ``""``) to its names, each with
            the ``module:attribute`` that stands in for it.
        later: dotted module to why nothing stands in for it, as the end of a sentence.
    """

    __slots__ = ("later", "modules", "name", "version")

    def __init__(
        self,
        name: str,
        version: str,
        modules: Mapping[str, Mapping[str, str]],
        later: Mapping[str, str],
    ) -> None:
        self.name = name
        self.version = version
        self.modules = modules
        self.later = later

    def names(self, module: str) -> Mapping[str, str] | None:
        """Return the table of a module of this package by its full name, None if there is none."""
        return self.modules.get(self._below(module))

    def reason(self, module: str) -> str | None:
        """Return why nothing stands in for a module, or for what it lies in; None if nobody knows it."""
        below = self._below(module)
        while below not in self.later:
            if not below:
                return None
            below = below.rpartition(".")[0]
        return self.later[below]

    def is_package(self, module: str) -> bool:
        """Return whether something lies below a module."""
        below = self._below(module)
        return not below or any(
            other.startswith(below + ".") for other in (*self.modules, *self.later)
        )

    def submodule(self, module: str, name: str) -> bool:
        """Return whether a module of that name lies directly below a module."""
        below = self._below(module)
        return (f"{below}.{name}" if below else name) in self.modules

    def _below(self, module: str) -> str:
        return module[len(self.name) + 1 :]


ALIASES = {
    "academy": "isthmus.compat.academy",
    "proxystore": "isthmus.compat.proxystore",
    "taps": "isthmus.compat.taps",
}
"""Foreign package to the module whose ``ALIAS`` is its table."""


def load_alias(name: str) -> Alias:
    """Return a package's table, reading it if need be.

    Raises:
        UnknownKindError: nothing stands in for a package of that name.
    """
    if name not in ALIASES:
        from isthmus.errors import UnknownKindError

        raise UnknownKindError("package to stand in for", name, sorted(ALIASES))
    alias: Alias = importlib.import_module(ALIASES[name]).ALIAS
    return alias
