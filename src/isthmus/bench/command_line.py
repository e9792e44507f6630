"""The command line of ``isthmus bench run``, generated from the models of the plugins it names."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, NoReturn

from isthmus.bench.config import EngineConfig, LoggingConfig, RunConfig
from isthmus.bench.plugins import GROUPS
from isthmus.bench.sections import DEFAULTS, PLUGINS, Option, Settings, option_name, options
from isthmus.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from isthmus.bench.config import BenchConfig

__all__ = ["read"]


def read(argv: Sequence[str]) -> BenchConfig | None:
    """Return the configuration that files and options add up to; None if help was asked for and printed.

    Raises:
        SpecError: a file, section, field or value is wrong; the message says which and where.
    """
    arguments = [_dashed(a) for a in argv]
    # First who, then what: the plugins named decide which other options there are.
    chooser = _parser()
    _add_choices(chooser)
    chosen, _ = chooser.parse_known_args(arguments)
    settings = Settings()
    for path in chosen.config:
        settings.add_file(path)
    for path in PLUGINS:
        name = getattr(chosen, option_name(path))
        if name is not None:
            settings.choose(path, name, "command line")
    parser = _parser()
    _add_choices(parser)
    known = list(_add_fields(parser, settings))
    if chosen.help:
        parser.print_help()
        return None
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        _refuse(unknown[0], [o.name for o in known])
    for option in known:
        text = getattr(given, option.name)
        if text is not None:
            settings.set(option.path, option.parse(text), "command line")
    return settings.build()


class _Parser(argparse.ArgumentParser):
    """Mistakes are errors of ours, in one line."""

    def error(self, message: str) -> NoReturn:
        raise SpecError("command line", message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="isthmus bench run", add_help=False, allow_abbrev=False, usage="%(prog)s [OPTIONS]"
    )
    parser.add_argument(
        "-h", "--help", action="store_true", help="show this, with the options of what is named"
    )
    parser.add_argument(
        "--config", nargs="+", action="extend", default=[], metavar="TOML",
        help="configuration files; later ones win, options on the command line win over all",
    )  # fmt: skip
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    for path, kind in PLUGINS.items():
        default = f" (default: {DEFAULTS[path]})" if path in DEFAULTS else " (required)"
        parser.add_argument(
            option_name(path),
            dest=option_name(path),
            metavar="NAME",
            help=f"{', '.join(GROUPS[kind].kinds())}{default}",
        )


def _add_fields(parser: argparse.ArgumentParser, settings: Settings) -> list[Option]:
    found: list[Option] = []
    models = [(path, settings.plugin(path)) for path in PLUGINS]
    plain: list[tuple[tuple[str, ...], type[BaseModel]]] = [
        (("engine",), EngineConfig),
        (("run",), RunConfig),
        (("logging",), LoggingConfig),
    ]
    for path, model in (*models, *plain):
        if model is None:
            continue
        title = model.model_fields["name"].default if "name" in model.model_fields else None
        group = parser.add_argument_group(f"{'.'.join(path)} {title}" if title else path[0])
        for option in options(model, path):
            found.append(option)
            group.add_argument(
                option.name,
                dest=option.name,
                metavar=option.path[-1].upper(),
                nargs="*" if option.is_list else None,
                help=option.help().replace("%", "%%"),
            )
    return found


def _dashed(argument: str) -> str:
    """Write an option with dashes; ``--app.matrix_size`` is accepted too."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def _refuse(argument: str, known: list[str]) -> NoReturn:
    name = argument.partition("=")[0]
    everything = [*known, *map(option_name, PLUGINS), "--config", "--help"]
    near = difflib.get_close_matches(name, everything, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if not name.startswith("-"):
        raise SpecError("command line", f"unexpected {name!r}; options start with --")
    if name.startswith("--app.") and not any(n.startswith("--app.") for n in known):
        hint = "; name the application first: --app NAME"
    raise SpecError("command line", f"no such option {name}{hint}")
