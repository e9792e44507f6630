"""Round trips of no-op Colmena tasks over Parsl, by proxy and by value (dissertation, figure 3.12)."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from benchmarks.harness import Case, Target, Value, at_least, compare
from benchmarks.run import main
from isthmus.testing.servers import RedisServer

TITLE = "Colmena and Parsl: round trips of no-op tasks (figure 3.12)"

SIZES = {"10 kB": 10_000, "1 MB": 1_000_000, "10 MB": 10_000_000}
ROUNDS = {10_000: 100, 1_000_000: 50, 10_000_000: 12}
WAYS = {"redis": "Redis", "files": "files", "shared": "shared memory"}

# Both sides are one application in one process, so that rounds alternate between topics of one queue.
SETUP = """
from benchmarks.colmena_app import trip as prepared
trip = prepared({port}, {way!r}, {there}, {back})
"""


def cases(quick: bool) -> Iterable[Case]:
    """Yield the three sizes there and back through each store, then each direction alone through Redis."""
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        print("nothing measured: there is no redis-server on this machine")
        return
    with RedisServer() as server:
        for label, size in SIZES.items():
            for way in WAYS:
                yield _case(f"{label} in and out", way, size, size, server.port)
        if not quick:
            yield _case("1 MB in", "redis", 1_000_000, 0, server.port)
            yield _case("1 MB out", "redis", 0, 1_000_000, server.port)


def _case(label: str, way: str, there: int, back: int, port: int) -> Case:
    def side(way: str) -> Value:
        setup = SETUP.format(port=port, way=way, there=there, back=back)
        return Value("trip()", setup, side="Colmena")

    # Published: 40 to 60 % for 1 MB; nothing gained below 100 kB; no figure in words for 10 MB.
    target: Target = (
        at_least(40, below="by value") if there == back == 1_000_000 else compare("by value")
    )
    return Case(
        f"{label}, {WAYS[way]}",
        side(way),
        {"by value": side("value")},
        [target],
        unit="ms",
        rounds=ROUNDS[max(there, back)],
        budget=60,
    )


if __name__ == "__main__":
    raise SystemExit(main(["colmena"]))
