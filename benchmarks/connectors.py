"""Raw bytes through memory, shared memory and files (TARGETS 3), against a copy of the same bytes."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, Target, Value, at_least, at_most
from benchmarks.run import main

TITLE = "Connectors on one machine, raw buffers (TARGETS 3)"

SIZES = {"100 kB": 100_000, "10 MB": 10_000_000, "100 MB": 100_000_000}

OPEN = {
    "memory": """
from isthmus.connectors.memory import MemoryConnector
connector = MemoryConnector("benchmark")
""",
    "shm": """
import os
from isthmus.connectors.shm import SharedMemoryConnector
connector = SharedMemoryConnector(f"benchmark-{os.getpid()}")
""",
    "file": """
import atexit, shutil, tempfile
from isthmus.connectors.file import FileConnector
folder = tempfile.mkdtemp()
atexit.register(shutil.rmtree, folder, True)
connector = FileConnector(folder)
""",
}

CLEAN = """
import atexit
atexit.register(lambda: (connector.clear(), connector.close()))
"""


def data(size: int) -> str:
    """Return code that makes an array of `size` random bytes."""
    return (
        "import numpy as np\n"
        f"array = np.random.default_rng(0).integers(0, 255, {size}, dtype=np.uint8)\n"
    )


def opened(kind: str, size: int) -> str:
    """Return code that opens a connector beside an array."""
    return data(size) + OPEN[kind] + CLEAN


def memcpy(size: int) -> Code:
    """Copy into warm memory."""
    return Code("np.copyto(target, array)", data(size) + "target = array.copy()\n")


def cases(quick: bool) -> Iterable[Case]:
    """Yield the rows of each connector."""
    sizes = {name: size for name, size in SIZES.items() if not quick or size < 100_000_000}
    for name, size in sizes.items():
        yield from _shared_memory(name, size)
        for kind in ("memory", "file"):
            yield Case(
                f"{kind} put+get+evict {name}",
                Code(
                    "key = connector.put(array); connector.get(key); connector.evict(key)",
                    opened(kind, size),
                ),
                {"memcpy": memcpy(size)},
                unit="GB/s",
                amount=size,
                budget=6,
            )
    for kind in OPEN:
        yield Case(
            f"{kind} put+get+evict 1 kB",
            Code(
                "key = connector.put(array); connector.get(key); connector.evict(key)",
                opened(kind, 1000),
            ),
            budget=4,
        )
        if kind != "shm":
            yield _get(kind, "10 MB", 10_000_000, [])
        yield _peak(kind, "put", "connector.put(array)", [at_most(0.1)] if kind == "shm" else [])
        yield _peak(kind, "get", "connector.get(key)", [at_most(0.01 if kind == "shm" else 1.0)])


def _shared_memory(name: str, size: int) -> Iterable[Case]:
    yield Case(
        f"shm put, recycled {name}",
        Code(
            "key = connector.put(array)",
            opened("shm", size) + "for _ in range(3): connector.evict(connector.put(array))\n",
            after="connector.evict(key)",
        ),
        {"memcpy": memcpy(size)},
        [at_least(0.9, of="memcpy")],
        unit="GB/s",
        amount=size,
        budget=6,
    )
    yield Case(
        f"shm put, fresh pages {name}",
        # What is emptied after each loop could otherwise be recycled.
        Code("key = connector.put(array)", opened("shm", size), after="connector.clear()"),
        {"memcpy": memcpy(size)},
        [at_least(3)],
        unit="GB/s",
        amount=size,
        budget=6,
    )
    yield _get("shm", name, size, [at_most(10)])
    yield Case(
        f"shm get + scan {name}",
        Code(
            "np.frombuffer(connector.get(key), np.uint8).sum()",
            opened("shm", size) + "key = connector.put(array)\n",
        ),
        {"warm array": Code("array.sum()", data(size))},
        [at_most(1.6, of="warm array")],
        unit="ms",
        budget=6,
    )


def _get(kind: str, name: str, size: int, targets: list[Target]) -> Case:
    return Case(
        f"{kind} get {name}",
        Code("connector.get(key)", opened(kind, size) + "key = connector.put(array)\n"),
        targets=targets,
        budget=4,
    )


def _peak(kind: str, operation: str, call: str, targets: list[Target]) -> Case:
    return Case(
        f"{kind} {operation}: peak memory beyond the object",
        Value(
            f"peak_above(lambda: {call}) / array.nbytes",
            "from benchmarks.memory import peak_above\n"
            + opened(kind, 100_000_000)
            + "key = connector.put(array)\n",
        ),
        targets=targets,
        unit="× object",
        rounds=3,
    )


if __name__ == "__main__":
    raise SystemExit(main(["connectors"]))
