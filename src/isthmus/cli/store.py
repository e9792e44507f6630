"""``isthmus store``: what stores hold on this machine, and the freeing of what nobody needs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from isthmus.cli.arguments import Parser, duration
from isthmus.cli.quantities import age_text, bytes_text, deadline_text
from isthmus.cli.tables import table
from isthmus.connectors import ListableConnector, ObjectInfo, connectors
from isthmus.connectors.leases import upkeep
from isthmus.errors import SpecError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Sequence

    from isthmus.connectors import Connector

__all__ = ["main"]


class Space(NamedTuple):
    """The storage of one connector."""

    kind: str
    name: str
    connector: Connector[Any]


def main(argv: Sequence[str]) -> int:
    """List or free; returns 0."""
    options = _parser().parse_args(argv)
    act = _list if options.action == "ls" else _collect
    with contextlib.ExitStack() as opened:
        opened.enter_context(upkeep.paused())  # what is overdue is told first, and goes in `gc`
        spaces = list(_spaces(options))
        for space in spaces:
            opened.callback(space.connector.close)
        found = act(spaces, options)
    if options.json:
        print(json.dumps(found, indent=2))
    return 0


def _parser() -> Parser:
    parser = Parser("isthmus store", description="What stores hold on this machine.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ls|gc")
    ls = actions.add_parser("ls", help="list what is stored", description="List what is stored.")
    ls.add_argument("--objects", action="store_true", help="list every object, not only the spaces")
    gc = actions.add_parser(
        "gc",
        help="free what nobody needs",
        description="Remove objects whose lease has run out and what killed processes left unfinished, and "
        "with --dead also complete objects whose producer has ended. Such an object may still be wanted: a "
        "consumer that has yet to resolve its proxy will find it missing.",
    )
    gc.add_argument("--dead", action="store_true", help="also objects whose producer has ended")
    gc.add_argument(
        "--older-than",
        type=duration,
        metavar="AGE",
        help="with --dead, only objects at least so old: 90s, 15m, 2h, 1.5d",
    )
    gc.add_argument(
        "--dry-run", action="store_true", help="free nothing, tell which objects it would be"
    )
    for action in (ls, gc):
        action.add_argument(
            "--kind",
            default="shm",
            help="kind of connector (default: shm; of shm and zmq, every space of this user here)",
        )
        action.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="argument of the connector, such as store_dir=DIR; repeat for more",
        )
        action.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _spaces(options: Namespace) -> Iterator[Space]:
    arguments = dict(_argument(text) for text in options.option)
    kind = connectors.get(options.kind)
    if options.kind == "shm" and not arguments:
        for name in shared_memory_spaces():
            yield Space("shm", name, kind.from_config({"name": name}))
        return
    if options.kind == "zmq" and not arguments:
        from isthmus.connectors.zmq.node import running

        for name in running():
            yield Space("zmq", name, kind.from_config({"name": name}))
        return
    folder = arguments.get("store_dir")
    if isinstance(folder, str) and not os.path.isdir(os.path.expanduser(folder)):
        raise SpecError(
            f"isthmus store {options.action}", f"there is no folder {folder!r} to look into"
        )
    connector = kind.from_config(arguments)
    if not isinstance(connector, ListableConnector):
        connector.close()
        raise SpecError(
            f"isthmus store {options.action}",
            f"a {options.kind} connector cannot list what it holds",
        )
    name = ", ".join(str(v) for v in arguments.values()) or "default"
    yield Space(options.kind, name, connector)


def shared_memory_spaces() -> list[str]:
    """Return the names of this user's spaces in shared memory, sorted; opens and makes none."""
    from isthmus.connectors.shm.area import root

    try:
        with os.scandir(os.path.join(root(), f"isthmus-{os.getuid()}")) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []


def _argument(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SpecError("--option", f"{text!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)  # numbers and booleans
    except ValueError:
        return name, value


def _list(spaces: Sequence[Space], options: Namespace) -> list[dict[str, Any]]:
    now = time.time()
    found: list[dict[str, Any]] = []
    for space in spaces:
        objects = [_object(info, now) for info in _listable(space).list()]
        entry: dict[str, Any] = {
            "kind": space.kind,
            "name": space.name,
            "objects": len(objects),
            "bytes": sum(o["bytes"] for o in objects),
            "leased": sum(o["until"] is not None for o in objects),
            "overdue": sum(o["overdue"] for o in objects),
            "bytes_of_the_dead": sum(o["bytes"] for o in objects if o["alive"] is False),
            "oldest_seconds": max((o["age_seconds"] for o in objects), default=0.0),
            "newest_seconds": min((o["age_seconds"] for o in objects), default=0.0),
            "owners": sorted({o["owner"] for o in objects if o["owner"]}),
            "owners_ended": sorted({o["owner"] for o in objects if o["alive"] is False}),
        }
        if options.objects:
            entry["contents"] = objects
        found.append(entry)
    if not options.json:
        print(_objects_text(found) if options.objects else _spaces_text(found))
    return found


def _spaces_text(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return "nothing is stored"
    rows = [
        [
            e["kind"],
            e["name"],
            str(e["objects"]),
            bytes_text(e["bytes"]),
            bytes_text(e["bytes_of_the_dead"]),
            f"{len(e['owners'])}, {len(e['owners_ended'])} ended",
            f"{e['leased']}, {e['overdue']} overdue" if e["leased"] else "-",
            age_text(e["oldest_seconds"]) if e["objects"] else "-",
        ]
        for e in found
    ]
    header = ["kind", "name", "objects", "bytes", "of ended ones", "producers", "leased", "oldest"]
    return table(header, rows, right=(2, 3, 4))


def _objects_text(found: Sequence[dict[str, Any]]) -> str:
    alive = {True: "runs", False: "ended", None: "unknown"}
    rows = [
        [
            e["kind"],
            e["name"],
            o["key"],
            bytes_text(o["bytes"]),
            o["owner"],
            alive[o["alive"]],
            age_text(o["age_seconds"]),
            deadline_text(o["until"], time.time()),
        ]
        for e in found
        for o in e["contents"]
    ]
    if not rows:
        return "nothing is stored"
    header = ["kind", "name", "key", "bytes", "producer", "it", "age", "goes"]
    return table(header, rows, right=(3,))


def _collect(spaces: Sequence[Space], options: Namespace) -> dict[str, Any]:
    if options.older_than is not None and not options.dead:
        raise SpecError("isthmus store gc", "--older-than narrows --dead; give both")
    now = time.time()
    found: list[dict[str, Any]] = []
    for space in spaces:
        connector = _listable(space)
        objects = count = 0
        overdue = [i for i in connector.list() if i.until is not None and i.until <= now]
        debris = None if options.dry_run else connector.sweep()
        if not options.dry_run:
            overdue = [i for i in overdue if not space.connector.exists(i.key)]
        overdue_bytes = sum(info.size for info in overdue)
        for info in list(connector.list()) if options.dead else ():
            if options.dry_run and info in overdue:
                continue
            if now - info.created >= (options.older_than or 0.0) and _alive(info.owner) is False:
                if not options.dry_run:
                    space.connector.evict(info.key)
                objects += 1
                count += info.size
        found.append(
            {
                "kind": space.kind,
                "name": space.name,
                "overdue": len(overdue),
                "overdue_bytes": overdue_bytes,
                "debris_bytes": None if debris is None else max(0, debris - overdue_bytes),
                "objects": objects,
                "object_bytes": count,
            }
        )
    if not options.json:
        print(_collected_text(found, options))
    return {"dry_run": options.dry_run, "spaces": found}


def _collected_text(found: Sequence[dict[str, Any]], options: Namespace) -> str:
    would = "would free" if options.dry_run else "freed"
    lines = []
    for e in found:
        parts = []
        if options.dead:
            parts.append(
                f"{e['objects']} objects of ended producers, {bytes_text(e['object_bytes'])}"
            )
        if e["overdue"]:
            parts.append(
                f"{e['overdue']} objects whose lease had run out, {bytes_text(e['overdue_bytes'])}"
            )
        if e["debris_bytes"] is not None:
            parts.append(f"{bytes_text(e['debris_bytes'])} of unfinished writes")
        if parts:
            lines.append(f"{e['kind']} {e['name']}: {would} {', '.join(parts)}")
    if options.dry_run:
        lines.append("unfinished writes of killed processes are found only by removing them")
    return "\n".join(lines) or "nothing to free"


def _object(info: ObjectInfo, now: float) -> dict[str, Any]:
    return {
        "key": "/".join(str(part) for part in info.key),
        "bytes": info.size,
        "owner": info.owner,
        "alive": _alive(info.owner),
        "age_seconds": max(0.0, now - info.created),
        "until": info.until,
        "overdue": info.until is not None and info.until < now,
    }


def _alive(owner: str) -> bool | None:
    """Whether a producer ``host:pid`` runs; None if it is another host's, or not known."""
    host, _, pid = owner.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return None
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's process, which runs
        return True
    return True


def _listable(space: Space) -> ListableConnector[Any]:
    assert isinstance(space.connector, ListableConnector)  # `_spaces` saw to it
    return space.connector
