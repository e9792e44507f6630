"""From TOML files and command-line options to a configuration, with errors that say where.

Values stay plain until every source is merged, later ones over earlier ones, each remembered with its
source. Then each section is validated by the model of the plugin that it names, strictly: a string is
no number in TOML. (Options are strings, and become what their field wants before they are merged.)
"""

from __future__ import annotations

import difflib
import json
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from isthmus.bench.config import BenchConfig, EngineConfig, LoggingConfig, RunConfig
from isthmus.bench.plugins import GROUPS
from isthmus.errors import SpecError, UnknownKindError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic.fields import FieldInfo

__all__ = ["DEFAULTS", "PLUGINS", "Option", "Settings", "options"]

Path = tuple[str, ...]

PLUGINS: dict[Path, str] = {
    ("app",): "app",
    ("engine", "executor"): "executor",
    ("engine", "transformer"): "transformer",
    ("engine", "filter"): "filter",
    ("engine", "record_logger"): "record-logger",
}
"""The sections that choose a plugin, and the kind of it."""

DEFAULTS: dict[Path, str] = {
    ("engine", "executor"): "process",
    ("engine", "transformer"): "null",
    ("engine", "filter"): "all",
    ("engine", "record_logger"): "json",
}

PLAIN: dict[Path, type[BaseModel]] = {
    ("engine",): EngineConfig,
    ("run",): RunConfig,
    ("logging",): LoggingConfig,
}


class Settings:
    """Values from several sources, and which source each came from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[Path, str] = {}

    def add_file(self, path: str) -> None:
        """Merge a TOML file over what is there.

        Raises:
            SpecError: it cannot be read, or is not TOML.
        """
        try:
            with open(path, "rb") as file:
                contents = tomllib.load(file)
        except OSError as error:
            raise SpecError(path, f"cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SpecError(path, f"is not TOML: {error}") from None
        self._merge(self.values, contents, (), path)

    def set(self, path: Path, value: Any, source: str) -> None:
        """Set one value over what is there.

        Raises:
            SpecError: a part of its path is a value in a file.
        """
        section = self.values
        for i, name in enumerate(path[:-1]):
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise SpecError(
                    self.source(path[: i + 1]), f"{'.'.join(path[: i + 1])} is no table"
                )
        section[path[-1]] = value
        self.sources[path] = source

    def source(self, path: Path) -> str:
        """Return where a value came from; a section that no source has is the command line's to give."""
        while path and path not in self.sources:
            path = path[:-1]
        return self.sources.get(path, "command line")

    def plugin(self, path: Path) -> type[BaseModel] | None:
        """Return the model of the plugin that a section names, None if it names none.

        Raises:
            SpecError: no plugin has the name; the message has the nearest that there is.
        """
        section = self.values.get(path[0], {})
        for name in path[1:]:
            section = section.get(name, {}) if isinstance(section, dict) else section
        if not isinstance(section, dict):
            raise SpecError(
                self.source(path), f"{'.'.join(path)} must be a table with a name, not a value"
            )
        kind: Any = section.get("name", DEFAULTS.get(path))
        source = self.source((*path, "name"))
        if kind is None:
            return None
        if not isinstance(kind, str):
            raise SpecError(source, f"{'.'.join(path)}.name must be a string, not {kind!r}")
        try:
            model: type[BaseModel] = GROUPS[PLUGINS[path]].get(kind)
        except UnknownKindError as error:
            raise SpecError(source, f"{'.'.join(path)}: {error}") from None
        return model

    def build(self) -> BenchConfig:
        """Validate everything.

        Raises:
            SpecError: a section or field is unknown, missing or wrong.
        """
        self._check_sections()
        parts: dict[Path, BaseModel] = {}
        for path in PLUGINS:
            model = self.plugin(path)
            if model is None:
                raise SpecError(
                    "command line",
                    f"choose an application: --app NAME (known: {', '.join(GROUPS['app'].kinds())})",
                )
            parts[path] = self._validated(model, path, {"name": DEFAULTS.get(path)})
        for path in (("run",), ("logging",)):
            parts[path] = self._validated(PLAIN[path], path, {})
        plugins = {p[-1]: parts[p] for p in PLUGINS if len(p) > 1}
        own = {k: v for k, v in self.values.get("engine", {}).items() if k not in plugins}
        engine = EngineConfig.model_construct(**{**_defaults(EngineConfig), **own, **plugins})
        self._check_own(EngineConfig, ("engine",), own)
        return BenchConfig.model_construct(
            app=parts["app",], engine=engine, run=parts["run",], logging=parts["logging",]
        )

    def choose(self, path: Path, name: str, source: str) -> None:
        """Name a section's plugin; the fields of another plugin, from an earlier source, go."""
        section = self.values
        for part in path[:-1]:
            section = section.setdefault(part, {})
        old = section.get(path[-1])
        if isinstance(old, dict) and _differ(path, old.get("name"), name):
            section[path[-1]] = {}
        self.set((*path, "name"), name, source)

    def _merge(self, into: dict[str, Any], new: Mapping[str, Any], path: Path, source: str) -> None:
        for name, value in new.items():
            here = (*path, name)
            self.sources[here] = source
            if isinstance(value, dict):
                if here in PLUGINS and isinstance(value.get("name"), str):
                    self.choose(here, value["name"], source)
                old = into.get(name)
                into[name] = old if isinstance(old, dict) else {}
                self._merge(into[name], value, here, source)
            else:
                into[name] = value

    def _check_sections(self) -> None:
        known = list(BenchConfig.model_fields)
        for name, value in self.values.items():
            if name not in known:
                raise SpecError(self.source((name,)), _unknown(name, known, "section"))
            if not isinstance(value, dict):
                raise SpecError(self.source((name,)), f"{name} must be a table, not {value!r}")

    def _check_own(self, model: type[BaseModel], path: Path, own: dict[str, Any]) -> None:
        known = list(model.model_fields)
        for name, value in own.items():
            if name not in known:
                raise SpecError(
                    self.source((*path, name)), f"{path[0]}.{_unknown(name, known, 'field')}"
                )
            _typed(
                model.model_fields[name], value, ".".join((*path, name)), self.source((*path, name))
            )

    def _validated(self, model: type[BaseModel], path: Path, extra: dict[str, Any]) -> BaseModel:
        section: Any = self.values
        for name in path:
            section = section.get(name, {})
        section = {**extra, **section}
        try:
            # As JSON, strictly: "3" is not 3, while a string still makes a path.
            return model.model_validate_json(json.dumps(section, default=str), strict=True)
        except ValidationError as error:
            raise self._explained(model, path, error) from None

    def _explained(self, model: type[BaseModel], path: Path, error: ValidationError) -> SpecError:
        # A misspelt field is often a missing one too, and is the one to name.
        found = error.errors(include_url=False)
        first = min(found, key=lambda one: one["type"] != "extra_forbidden")
        inside = tuple(str(part) for part in first["loc"])
        dotted = ".".join((*path, *inside))
        if first["type"] == "extra_forbidden":
            owner = _model_at(model, inside[:-1])
            text = _unknown(dotted, list(owner.model_fields), "field", last=inside[-1])
        elif first["type"] == "missing":
            text = f"{dotted} is missing: give {option_name((*path, *inside))} or set it in a file"
        else:
            text = f"{dotted}: {_message(first)}"
        return SpecError(self.source((*path, *inside)), text)


class Option(NamedTuple):
    """One field as a command-line option."""

    path: Path
    field: FieldInfo

    @property
    def name(self) -> str:
        """As it is written, ``--app.matrix-size``."""
        return option_name(self.path)

    @property
    def is_list(self) -> bool:
        """Whether it takes several values."""
        return getattr(self.field.annotation, "__origin__", None) in (list, tuple)

    def help(self) -> str:
        """The description, and the default or that there is none."""
        text = self.field.description or ""
        if self.field.is_required():
            return f"{text} (required)"
        default = self.field.get_default(call_default_factory=True)
        return text if default is None else f"{text} (default: {default})"

    def parse(self, text: str | Sequence[str]) -> Any:
        """Turn what was typed into plain builtins of the field's type.

        Raises:
            SpecError: it cannot be.
        """
        value: Any = text
        if not self.is_list and _wants_table(self.field):
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                raise SpecError(
                    "command line",
                    f"{self.name}: {text!r} is not an inline TOML table such as {{a = 1}}",
                ) from None
        return _typed(self.field, value, self.name, "command line", strict=False)


def options(model: type[BaseModel], path: Path) -> Iterator[Option]:
    """Yield the options of a model, those of nested models too."""
    for name, field in model.model_fields.items():
        if name == "name" and path in PLUGINS:
            continue
        kind = field.annotation
        if (*path, name) in PLUGINS:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from options(kind, (*path, name))
        else:
            yield Option((*path, name), field)


def option_name(path: Path) -> str:
    """Return how a field is written on the command line."""
    if path[-1] == "name" and path[:-1] in PLUGINS:
        path = path[:-1]
    return "--" + ".".join(path).replace("_", "-")


def _differ(path: Path, old: Any, new: str) -> bool:
    """Whether two names are of different plugins, and not one's two names."""
    registry = GROUPS[PLUGINS[path]]
    if old in (None, new) or not {old, new} <= set(registry.kinds()):
        return False
    return registry.get(old) is not registry.get(new)


def _typed(field: FieldInfo, value: Any, dotted: str, source: str, *, strict: bool = True) -> Any:
    annotation: Any = field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        typed = adapter.validate_python(value, strict=strict)
    except ValidationError as error:
        raise SpecError(
            source, f"{dotted}: {_message(error.errors(include_url=False)[0])}"
        ) from None
    return adapter.dump_python(typed, mode="json")


def _message(error: Any) -> str:
    text = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return str(text)
    return f"{text[0].lower()}{text[1:]}, got {error['input']!r}"


def _unknown(dotted: str, known: list[str], what: str, *, last: str | None = None) -> str:
    name = last if last is not None else dotted
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{dotted}: no such {what}{hint} (known: {', '.join(known)})"


def _model_at(model: type[BaseModel], inside: Path) -> type[BaseModel]:
    for name in inside:
        kind = model.model_fields[name].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    return model


def _wants_table(field: FieldInfo) -> bool:
    return getattr(field.annotation, "__origin__", field.annotation) is dict


def _defaults(model: type[BaseModel]) -> dict[str, Any]:
    return {
        name: field.default
        for name, field in model.model_fields.items()
        if field.default is not PydanticUndefined
    }
