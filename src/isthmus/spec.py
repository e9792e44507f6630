"""One shape and one registry for everything that can be plugged in.

A plugin (a connector, later a broker, an exchange, a launcher) is a class with a ``Spec``: a frozen
msgspec struct whose fields are its constructor's arguments, its TOML schema, its command-line options
and what travels inside a proxy. A :class:`Registry` finds plugins by *kind*: those registered in this
process, the built-ins, and whatever installed distributions declare as entry points.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, dataclass_transform

import msgspec

from isthmus.errors import MissingExtraError, NameTakenError, SpecError, UnknownKindError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Self

__all__ = ["Plugin", "Registry", "Spec", "require"]

T = TypeVar("T")
S = TypeVar("S", bound="Spec")


@dataclass_transform(frozen_default=True)
class _Frozen(msgspec.StructMeta):
    """Make every subclass frozen and strict without repeating it."""

    def __new__(mcls, name: str, bases: tuple[type, ...], ns: dict[str, Any], **kw: Any) -> Any:
        kw = {"frozen": True, "forbid_unknown_fields": True, **kw}
        return super().__new__(mcls, name, bases, ns, **kw)


class Spec(msgspec.Struct, metaclass=_Frozen):
    """The parameters of one plugin: hashable, comparable, and no secret among them.

    A secret is named, never held: a field such as ``password_env`` says which environment variable of
    the resolving process has it.
    """

    def config(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as plain builtins (TOML, JSON)."""
        # Not msgspec's omit_defaults: that compares by identity, so a field that came off the wire
        # would stay where the same field from the constructor goes.
        return {
            field.name: _plain(value)
            for field in msgspec.structs.fields(self)
            if (value := getattr(self, field.name)) != _default(field)
        }

    @classmethod
    def from_config(cls: type[S], config: Mapping[str, Any]) -> S:
        """Build a spec from plain builtins, strictly.

        Raises:
            SpecError: a field is unknown, missing, or of the wrong type.
        """
        try:
            return msgspec.convert(dict(config), cls, strict=True)
        except msgspec.ValidationError as error:
            raise SpecError(cls.__name__, str(error)) from None


def _plain(value: Any) -> Any:
    """Return builtins; a spec within a spec leaves its defaults out too."""
    if isinstance(value, Spec):
        return value.config()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return msgspec.to_builtins(value)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


class Plugin:
    """What is made from a spec, and made again elsewhere from its configuration."""

    spec_type: ClassVar[type[Spec]]

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    @property
    def spec(self) -> Spec:
        """What another process needs to open the same."""
        return self._spec

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain builtins."""
        return self._spec.config()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Open one from what `config` returned."""
        spec = cls.spec_type.from_config(config)
        return cls(**{field: getattr(spec, field) for field in spec.__struct_fields__})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the configuration: what is open here, or in this process's memory, stays here."""
        return type(self).from_config, (self.config(),)

    def __repr__(self) -> str:
        fields = ", ".join(f"{k}={v!r}" for k, v in self.config().items())
        return f"{type(self).__name__}({fields})"


class Registry(Generic[T]):
    """Plugins of one group by kind.

    Args:
        group: what a plugin of this group is called ("connector").
        entry_points: the entry-point group that third parties use ("isthmus.connectors").
        builtin: kind to ``"module:attribute"``. These are entry points of this distribution as well (a
            test compares the two); listing them here saves reading the metadata of every installed
            distribution, tens of milliseconds, when a worker resolves its first proxy.
    """

    def __init__(self, group: str, entry_points: str, builtin: Mapping[str, str]) -> None:
        self.group = group
        self.entry_points = entry_points
        self.builtin = dict(builtin)
        self._loaded: dict[str, T] = {}

    def register(self, kind: str, plugin: T) -> T:
        """Add a plugin for this process; a class defined anew (a notebook cell run twice) replaces itself.

        Raises:
            NameTakenError: the kind names another plugin already.
        """
        known = self._loaded.get(kind, plugin)
        if kind in self.builtin or (known is not plugin and _name(known) != _name(plugin)):
            raise NameTakenError(self.group, kind)
        self._loaded[kind] = plugin
        return plugin

    def get(self, kind: str) -> T:
        """Return the plugin named `kind`, importing it on first use.

        Raises:
            UnknownKindError: there is none; the message lists those there are.
        """
        found = self._loaded.get(kind)
        if found is not None:
            return found
        target = self.builtin.get(kind) or self._installed().get(kind)
        if target is None:
            raise UnknownKindError(self.group, kind, self.kinds())
        module, _, attribute = target.partition(":")
        plugin: T = getattr(importlib.import_module(module), attribute)
        return self._loaded.setdefault(kind, plugin)

    def kinds(self) -> list[str]:
        """Return every kind there is, sorted; imports no plugin."""
        return sorted({*self._loaded, *self.builtin, *self._installed()})

    def _installed(self) -> dict[str, str]:
        from importlib.metadata import entry_points

        return {e.name: e.value for e in entry_points(group=self.entry_points)}


def _name(plugin: object) -> object:
    name = getattr(plugin, "__qualname__", None)
    return (getattr(plugin, "__module__", None), name) if name else id(plugin)


def require(module: str, *, extra: str, what: str) -> ModuleType:
    """Import an optional dependency where it is used.

    Raises:
        MissingExtraError: it is not installed; the message names the extra to install.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # installed, but broken inside: that error is the useful one
        raise MissingExtraError(what, module, extra) from None
