"""Imports of a foreign package's names, answered from a table when nobody else answers them.

The finder is the last of ``sys.meta_path``. So whatever is really installed is found before anybody
asks here, and a name that is not ours costs nothing until it is found nowhere.
"""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec

from isthmus.compat.alias import load_alias

TYPE_CHECKING = False  # see alias.py
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, ModuleType
    from typing import Any

    from isthmus.compat.alias import Alias

__all__ = ["ORIGIN", "AliasFinder", "is_ours"]

ORIGIN = "isthmus.compat"
"""``__spec__.origin`` of a module that stands in."""


def is_ours(module: ModuleType | None) -> bool:
    """Return whether a module stands in for a foreign one."""
    spec = getattr(module, "__spec__", None)
    return spec is not None and isinstance(spec.loader, AliasLoader)


class AliasFinder:
    """Finds the modules of the packages that were asked for; see the module's text."""

    def __init__(self) -> None:
        self.packages: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to make a module, None if it is not of a package that we stand in for.

        Raises:
            AliasError: the module is known, and nothing stands in for it.
        """
        package = fullname.partition(".")[0]
        if package not in self.packages:
            return None
        if package != fullname and not is_ours(sys.modules.get(package)):
            _refuse_a_folder(package, fullname)
            return None  # a part that the installed package lacks: mixing ours in would help nobody
        if package == fullname and self._found_by_others_behind(fullname, path, target):
            return None
        alias = load_alias(package)
        names = alias.names(fullname)
        if names is None:
            _say_why_not(alias, fullname)
            return None
        return ModuleSpec(
            fullname,
            AliasLoader(alias),  # type: ignore[arg-type] # a Loader in all but its costly base class
            origin=ORIGIN,
            is_package=alias.is_package(fullname),
        )

    def _found_by_others_behind(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> bool:
        """Return whether a finder that was appended after this one, an editable install's, say, has it."""
        behind = sys.meta_path[sys.meta_path.index(self) + 1 :] if self in sys.meta_path else []
        return any(finder.find_spec(fullname, path, target) is not None for finder in behind)


class AliasLoader:
    """Fills a module with the names of a table, each imported when it is first used."""

    def __init__(self, alias: Alias) -> None:
        self.alias = alias

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return None: the usual module will do."""
        return None

    def get_code(self, fullname: str) -> CodeType | None:
        """Return what ``python -m fullname`` runs: its ``main``; None where it has none."""
        if "main" not in (self.alias.names(fullname) or {}):
            return None
        return compile(f"from {fullname} import main\nraise SystemExit(main())", fullname, "exec")

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its names; again, where it is reloaded."""
        alias, fullname = self.alias, module.__name__
        names = alias.names(fullname) or {}

        def get(name: str) -> Any:
            target = names.get(name)
            if target is None:
                if alias.submodule(fullname, name):
                    return importlib.import_module(f"{fullname}.{name}")
                raise AttributeError(
                    f"isthmus, which stands in for {alias.name!r}, has no {fullname}.{name} "
                    f"(it has {', '.join(names) or 'submodules only'})"
                )
            found = _load(target)
            vars(module)[name] = found
            return found

        for name in names:  # so that a reload forgets what was loaded
            vars(module).pop(name, None)
        vars(module).update(
            __doc__=f"isthmus, standing in for {fullname}.",
            __all__=list(names),
            __getattr__=get,
            __dir__=lambda: [*names, *(n for n in vars(module) if n.startswith("__"))],
        )
        if fullname == alias.name:
            vars(module)["__version__"] = alias.version


def _load(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def _say_why_not(alias: Alias, fullname: str) -> None:
    """Raise what says more than "no module named"; return where nothing more is known."""
    reason = alias.reason(fullname)
    if reason is not None:
        from isthmus.errors import AliasError

        raise AliasError(fullname, reason)


def _refuse_a_folder(package: str, fullname: str) -> None:
    """Say so if a mere folder of the package's name is in the way: it has no module to offer."""
    found = sys.modules.get(package)
    if found is not None and getattr(found, "__file__", None) is None:
        folders = ", ".join(getattr(found, "__path__", ()))
        if folders:
            from isthmus.errors import AliasError

            raise AliasError(
                fullname,
                f"the folder {folders}, which has no __init__.py, is found first under the name "
                f"{package!r}; rename it, or start Python elsewhere",
            )
