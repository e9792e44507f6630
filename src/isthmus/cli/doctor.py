"""``isthmus doctor``: what is here, what is missing, and the command that gets it."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import PackageNotFoundError
from typing import TYPE_CHECKING, NamedTuple

import isthmus
from isthmus.cli.arguments import Parser
from isthmus.cli.machine import Machine
from isthmus.cli.packages import Package, packages
from isthmus.cli.quantities import bytes_text
from isthmus.cli.servers import ask_all
from isthmus.cli.tables import paint
from isthmus.compat import ALIASES, VARIABLE, named, standing
from isthmus.errors import AliasError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Finding", "examine", "main"]

TESTED = ((3, 11), (3, 13))
FEW_OPEN_FILES = 1024
LITTLE_MEMORY = 2 << 30


class Finding(NamedTuple):
    """One thing looked at."""

    section: str
    name: str
    state: str
    """``ok``; ``absent``: optional and not there; ``warn``: will hurt; ``broken``: nothing works."""
    found: str
    advice: str = ""


def main(argv: Sequence[str]) -> int:
    """Print what was found; 1 if something essential is broken, else 0."""
    parser = Parser(
        "isthmus doctor", description="Tell what is here, what is missing, and how to get it."
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    options = parser.parse_args(argv)
    findings = list(examine())
    if options.json:
        print(json.dumps([f._asdict() for f in findings], indent=2))
    else:
        print(_text(findings))
    return int(any(f.state == "broken" for f in findings))


def examine() -> Iterator[Finding]:
    """Look at everything, essential things first."""
    machine = Machine.here()
    yield from _python(machine)
    yield _proxy()
    yield from _aliases()
    yield from _dependencies()
    yield from _machine(machine)
    yield _shared_memory(machine)
    yield from _limits(machine)
    yield from _servers()
    yield _zmq_servers()


def _python(machine: Machine) -> Iterator[Finding]:
    where = os.path.dirname(os.path.abspath(isthmus.__file__))
    yield Finding("core", "isthmus", "ok", f"{isthmus.__version__} in {where}")
    oldest, newest = TESTED
    tested = oldest <= sys.version_info[:2] <= newest
    yield Finding(
        "core",
        "python",
        "ok" if tested else "warn",
        f"{machine.python} ({sys.executable})",
        "" if tested else "tested on {}.{} to {}.{}; use one of these".format(*oldest, *newest),
    )


def _proxy() -> Finding:
    try:
        from isthmus.proxy import implementation
    except Exception as error:  # a broken build of the extension is what a doctor is for
        return Finding("core", "proxy", "broken", f"{type(error).__name__}: {error}", _REBUILD)
    if implementation == "c":
        return Finding("core", "proxy", "ok", "the C type")
    if os.environ.get("ISTHMUS_PURE_PROXY"):
        return Finding("core", "proxy", "ok", "pure Python, as ISTHMUS_PURE_PROXY asks")
    return Finding("core", "proxy", "warn", "pure Python: right, but slower", _REBUILD)


_REBUILD = (
    "apt-get install -y --no-install-recommends gcc libc6-dev python3-dev, then reinstall isthmus"
)


def _aliases() -> Iterator[Finding]:
    """Say what the packages that ISTHMUS_COMPAT names are here."""
    asked = named(os.environ.get(VARIABLE, ""))
    if not asked:
        yield Finding("core", "aliases", "ok", f"none asked for ({VARIABLE} is not set)")
    for package in asked:
        try:
            stands = standing(package)
        except AliasError as error:
            yield Finding("core", package, "warn", str(error), "take it out of the variable")
            continue
        if stands == "isthmus":
            yield Finding("core", package, "ok", "isthmus stands in for it")
        elif stands:
            yield Finding("core", package, "ok", f"{stands}, which comes before isthmus")
        elif package in ALIASES:
            found = f"asked for in {VARIABLE}, and isthmus-compat.pth is not in effect"
            yield Finding("core", package, "warn", found, "pip install --force-reinstall isthmus")
        else:
            found = f"asked for in {VARIABLE}; isthmus stands in for {', '.join(ALIASES)} only"
            yield Finding("core", package, "warn", found, "correct the variable")


def _dependencies() -> Iterator[Finding]:
    try:
        known = packages()
    except PackageNotFoundError:
        yield Finding(
            "core",
            "metadata",
            "warn",
            "isthmus runs from a source tree that is not installed",
            "pip install -e . in the source tree",
        )
        return
    for package in known:
        yield _dependency(package)


def _dependency(package: Package) -> Finding:
    section = "extras" if package.extra else "core"
    if package.good:
        return Finding(section, package.name, "ok", package.version or "")
    install = f"pip install 'isthmus[{package.extra}]'" if package.extra else "pip install isthmus"
    if package.version is None:
        state = "absent" if package.extra else "broken"
        return Finding(section, package.name, state, "not installed", install)
    state = "warn" if package.extra else "broken"
    found = f"{package.version}, too old: {package.least} or newer is needed"
    return Finding(
        section, package.name, state, found, f"pip install -U '{package.name}>={package.least}'"
    )


def _machine(machine: Machine) -> Iterator[Finding]:
    yield Finding("machine", "system", "ok", f"{machine.system}, {machine.processor}")
    beyond = machine.cores_present > machine.cores
    yield Finding(
        "machine",
        "cores",
        "ok",
        f"{machine.cores:g}" + (f" of {machine.cores_present} in the machine" if beyond else ""),
    )
    little = 0 < machine.memory_available < LITTLE_MEMORY
    yield Finding(
        "machine",
        "memory",
        "warn" if little else "ok",
        f"{bytes_text(machine.memory)}, {bytes_text(machine.memory_available)} available",
        f"the demo wants about {bytes_text(LITTLE_MEMORY)}; `isthmus demo --quick` wants less"
        if little
        else "",
    )


def _shared_memory(machine: Machine) -> Finding:
    found = machine.shared_memory
    if found is None or not found.writable:
        what = "there is none" if found is None else f"{found.path} is not writable"
        return Finding(
            "machine", "shared memory", "warn", what, "objects go to files; mount a tmpfs there"
        )
    text = f"{bytes_text(found.total)} at {found.path}, {bytes_text(found.free)} free"
    if found.is_container_default:
        advice = (
            "a container's default; larger objects spill to files. Start it with --shm-size=2g "
            "(docker, podman), mount an emptyDir with medium: Memory at /dev/shm (Kubernetes), or name "
            "another tmpfs in ISTHMUS_SHM_DIR"
        )
        return Finding("machine", "shared memory", "warn", text, advice)
    if found.free < found.total // 20:
        advice = (
            "`isthmus store ls` shows what isthmus holds there, `isthmus store gc` frees debris"
        )
        return Finding("machine", "shared memory", "warn", f"{text}: nearly full", advice)
    return Finding("machine", "shared memory", "ok", text)


def _limits(machine: Machine) -> Iterator[Finding]:
    soft, hard = machine.open_files
    few = 0 <= soft < FEW_OPEN_FILES
    shown = ["unlimited" if n < 0 else str(n) for n in (soft, hard)]
    yield Finding(
        "machine",
        "open files",
        "warn" if few else "ok",
        f"{shown[0]} (hard limit {shown[1]})",
        f"each shared object in use holds one: ulimit -n {hard if 0 <= hard < 65536 else 65536}"
        if few
        else "",
    )
    scope = machine.ptrace_scope
    if scope is not None:
        who = ("any process of the same user", "parents only", "root only", "nobody")[min(scope, 3)]
        yield Finding("machine", "ptrace", "ok", f"{who} may attach a profiler or debugger")


def _servers() -> Iterator[Finding]:
    for answer in ask_all():
        server = answer.server
        if answer.version is not None:
            version = f" {answer.version}" if answer.version else ""
            yield Finding("servers", server.name, "ok", f"answers at {answer.address}{version}")
        else:
            trouble = f": {answer.trouble}" if answer.trouble else ""
            yield Finding(
                "servers",
                server.name,
                "absent",
                f"none at {answer.address}{trouble}",
                f"apt-get install -y --no-install-recommends {server.install}, "
                f"or set {server.variable}=host:port",
            )


def _zmq_servers() -> Finding:
    from isthmus.connectors.zmq.node import running

    found = [
        f"{name!r} at {card.address}:{card.port} (process {card.pid})"
        for name, card in running().items()
    ]
    shown = ", ".join(found) or "none runs here; the first put of a zmq connector starts one"
    return Finding("servers", "ZeroMQ", "ok", shown)


_MARKS = {
    "ok": ("✓", "green"),
    "absent": ("·", "dim"),
    "warn": ("!", "yellow"),
    "broken": ("✗", "red"),
}


def _text(findings: Sequence[Finding]) -> str:
    width = max(len(f.name) for f in findings)
    lines: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines += [""] * bool(lines) + [paint(section, "bold")]
        mark = paint(*_MARKS[finding.state])
        lines.append(f"  {mark} {finding.name:<{width}}  {finding.found}")
        if finding.advice:
            lines.append(f"    {'':<{width}}  {paint('→ ' + finding.advice, 'dim')}")
    count = {state: sum(f.state == state for f in findings) for state in _MARKS}
    verdict = (
        f"{count['broken']} essential thing(s) broken" if count["broken"] else "isthmus works here"
    )
    rest = f"{count['warn']} warning(s), {count['absent']} optional thing(s) absent"
    return "\n".join([*lines, "", f"{paint(verdict, 'bold')}; {rest}"])
