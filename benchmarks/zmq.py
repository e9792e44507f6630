"""ZeroMQ against ProxyStore's connector over it, each with a server of its own (TARGETS 3)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, Target, Value, at_least, at_most
from benchmarks.redis import ARRAY, SIZES, WAIT
from benchmarks.run import main
from benchmarks.store import PEAKS

TITLE = "ZeroMQ on one machine (TARGETS 3)"

# Two ways: through the unix socket, as processes of a node do, and over TCP with CURVE, as nodes do
# with each other: the consumer is then told that it is on another node.
OURS = """
import atexit, os, tempfile
os.environ["ISTHMUS_ZMQ_DIR"] = os.environ["ISTHMUS_CONFIG_DIR"] = tempfile.mkdtemp(prefix="isthmus-")
from isthmus.store import Store
from isthmus.connectors.zmq import ZmqConnector
c = ZmqConnector("benchmark", "127.0.0.1")
s = Store(None, c, cache_size=0)
atexit.register(lambda: s.closed or s.clear())
"""
ELSEWHERE = """
os.environ["ISTHMUS_ZMQ_DIR"] = tempfile.mkdtemp(prefix="isthmus-")
far = Store(None, ZmqConnector("benchmark", "127.0.0.1"), cache_size=0)
"""
PROXYSTORE = """
import atexit, socket
from proxystore.store import Store
from proxystore_ex.connectors.dim.zmq import ZeroMQConnector
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
s = Store("benchmark", ZeroMQConnector(port, address="127.0.0.1"), cache_size=0, register=False)
atexit.register(s.close)
"""


def cases(quick: bool) -> Iterable[Case]:
    """Yield rates, batches, peaks of memory, and how soon a waiter wakes."""
    for label, size in SIZES.items():
        if not quick or size < 100_000_000:
            yield _round_trip(label, size)
            yield _between_nodes(label, size)
    many = "xs = [bytes(1000) for _ in range(100)]\n"
    stmt = "ks = s.put_batch(xs); {get}"
    after = "[s.evict(k) for k in ks]"
    yield Case(
        "store: batches of 100 × 1 kB, put + get",
        Code(stmt.format(get="s.get_batch(ks)"), OURS + many, after=after),
        {
            "ProxyStore": Code(
                stmt.format(get="[s.get(k) for k in ks]"),
                PROXYSTORE + many,
                "",
                after,
                "ProxyStore",
            )
        },
        unit="ms",
    )
    yield from _peaks("10 MB" if quick else "100 MB")
    yield Case(
        "wait: from put_at to awake",
        Value("wait()", OURS + WAIT),
        targets=[at_most(5)],
        unit="ms",
        budget=5,
    )


def _round_trip(label: str, size: int) -> Case:
    array, put_get = ARRAY.format(size=size), "k = s.put(x); y = s.get(k)"
    after = "del y; s.evict(k)"
    targets: list[Target] = [at_least(8, of="ProxyStore")] if size >= 100_000 else []
    return Case(
        f"store: put + get, {label}",
        Code(put_get, OURS + array, "", after),
        {"ProxyStore": Code(put_get, PROXYSTORE + array, "", after, "ProxyStore")},
        targets,
        unit="MB/s" if size < 100_000 else "GB/s",
        amount=size,
    )


def _between_nodes(label: str, size: int) -> Case:
    return Case(
        f"store: get over TCP and CURVE, {label}",
        Code("y = far.get(k)", OURS + ELSEWHERE + ARRAY.format(size=size) + "k = s.put(x)\n"),
        unit="MB/s" if size < 100_000 else "GB/s",
        amount=size,
    )


def _peaks(label: str) -> Iterable[Case]:
    array = ARRAY.format(size=SIZES[label])
    # Of get, the object that it returns is a part.
    for verb, limit in (("put", 1), ("get", 2)):
        yield Case(
            f"store: peak memory of {verb}, {label}",
            Value(f"{verb}_peak()", OURS + array + PEAKS),
            {"ProxyStore": Value(f"{verb}_peak()", PROXYSTORE + array + PEAKS, "ProxyStore")},
            [at_most(limit)],
            unit="× object",
            rounds=5,
        )


if __name__ == "__main__":
    raise SystemExit(main(["zmq"]))
