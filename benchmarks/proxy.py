"""What a proxy costs over the bare object (TARGETS 1), for both implementations."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, Target, Value, at_most
from benchmarks.run import main

TITLE = "Proxy (TARGETS 1)"

# Both implementations of ours run in the same process; which one a snippet takes is in its setup.
IMPLEMENTATIONS = {
    "C": "from isthmus.proxy._proxy import Proxy, is_resolved, extract",
    "Python": "from isthmus.proxy._pure import Proxy, is_resolved, extract",
    "PS": "from proxystore.proxy import Proxy, is_resolved, extract",
}
TARGETS_OF = """
import numpy as np
class Thing:
    def __init__(self): self.attribute = 1
    def method(self): return 1
class Factory:
    def __init__(self, target): self.target = target
    def __call__(self): return self.target
"""
BARE = "made = lambda target: target"
PROXIED = """
def made(target):
    p = Proxy(Factory(target))
    extract(p)
    return p
"""
OBJECTS = """
thing, number, items, array = made(Thing()), made(7), made([1, 2, 3]), made(np.arange(10))
"""

STORED = """
import pickle, tempfile
from isthmus.store import Store
from isthmus.connectors.file import FileConnector
store = Store("default", FileConnector(tempfile.mkdtemp()))
p = store.proxy(7)
"""
# The store makes proxies of the implementation that runs. For the other one a factory like a store's:
# all that travels is one piece of bytes.
STORED_TWIN = """
import pickle
from isthmus.proxy._pure import Proxy
from isthmus.proxy import TargetClass
def rebuild(wire): return Proxy(Stored(wire))
class Stored:
    def __init__(self, wire): self.wire = wire
    def __call__(self): return 7
    def __proxy_reduce__(self, about): return rebuild, (self.wire,)
p = Proxy(Stored(bytes(150)), TargetClass.of(7))
"""
PS_STORED = """
import os, pickle, tempfile
from proxystore.store import Store
from proxystore.connectors.file import FileConnector
store = Store("default", FileConnector(tempfile.mkdtemp()))
p = store.proxy(7)
"""

# How often the factory runs when eight threads use a proxy that nobody has resolved.
TOGETHER = """
import threading, time
def calls():
    count, start = [], threading.Barrier(8)
    def factory():
        count.append(1)
        time.sleep(0.02)
        return 7
    p = Proxy(factory)
    def use():
        start.wait()
        p + 1
    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(count)
"""

# (name, statement, bound over the bare object)
OPERATIONS = [
    ("attribute", "thing.attribute", 3),
    ("method call", "thing.method()", 3),
    ("+", "number + 1", 2),
    ("[]", "items[1]", 2),
    ("len", "len(items)", 1.3),
    ("==", "number == 7", 2),
    ("bool", "bool(number)", 2),
    ("in", "2 in items", 2),
    ("iter", "iter(items)", 2),
    ("np.add, 10 elements", "np.add(array, array)", 4),
    ("memoryview", "memoryview(array)", 1.2),
]


def on(implementation: str, statement: str, extra: str = OBJECTS) -> Code:
    """Time a statement on resolved proxies of one implementation."""
    setup = IMPLEMENTATIONS[implementation] + TARGETS_OF + PROXIED + extra
    return Code(statement, setup, side="ProxyStore" if implementation == "PS" else "isthmus")


def bare(statement: str) -> Code:
    """Time a statement on the objects themselves."""
    return Code(statement, TARGETS_OF + BARE + OBJECTS)


def cases(quick: bool) -> Iterable[Case]:
    """Yield the rows, first of the C implementation and then of the twin, whose bound is ProxyStore."""
    for implementation in ("C", "Python"):
        label = "" if implementation == "C" else " (twin)"

        def bounds(of_bare: float, twin: bool = bool(label)) -> list[Target]:
            return [at_most(1, of="ProxyStore")] if twin else [at_most(of_bare, of="bare")]

        yield Case(
            f"create{label}",
            on(implementation, "Proxy(factory)", "factory = Factory(1)"),
            {"ProxyStore": on("PS", "Proxy(factory)", "factory = Factory(1)")},
            [at_most(1 if label else 0.2, of="ProxyStore")],
            unit="ns",
        )
        for name, statement, bound in OPERATIONS:
            if label and name == "memoryview":
                continue  # before Python 3.12 the twin cannot; neither can ProxyStore
            against = {"bare": bare(statement)}
            if name != "memoryview":
                against["ProxyStore"] = on("PS", statement)
            ours = on(implementation, statement)
            yield Case(f"{name}{label}", ours, against, bounds(bound), unit="ns")
        setup = IMPLEMENTATIONS[implementation]
        yield Case(
            f"factory calls by 8 threads{label}",
            Value("calls()", setup + TOGETHER),
            {"ProxyStore": Value("calls()", IMPLEMENTATIONS["PS"] + TOGETHER, side="ProxyStore")},
            [at_most(1)],
            unit="calls",
            rounds=5,
        )
        stored = STORED_TWIN if label else STORED
        yield Case(
            f"pickled size{label}",
            Value("len(pickle.dumps(p))", stored),
            {"ProxyStore": Value("len(pickle.dumps(p))", PS_STORED, side="ProxyStore")},
            [at_most(250)],
            unit="B",
            rounds=5,
        )
        yield Case(
            f"dumps{label}",
            Code("pickle.dumps(p)", stored),
            {"ProxyStore": Code("pickle.dumps(p)", PS_STORED, side="ProxyStore")},
            [at_most(4)],
            unit="µs",
        )


if __name__ == "__main__":
    raise SystemExit(main(["proxy"]))
