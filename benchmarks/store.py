"""Stores on one machine against ProxyStore's, Ray's object store, and memcpy (TARGETS 3, what is local)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, Target, Value, at_least, at_most
from benchmarks.run import main

TITLE = "Stores on one machine (TARGETS 3, local connectors)"

SIZES = {"1 kB": 1_000, "100 kB": 100_000, "10 MB": 10_000_000, "100 MB": 100_000_000}

# Each side has `s`, a store, and `x`, an array of random doubles; every key is new, so no cache answers.
ARRAY = """
import numpy as np
x = np.random.default_rng(0).random({size} // 8)
"""
OURS = """
import atexit, os, shutil, tempfile
from isthmus.store import Store
def memory():
    from isthmus.connectors.memory import MemoryConnector
    return Store(None, MemoryConnector("benchmark-" + os.urandom(4).hex()), cache_size=0)
def shared():
    from isthmus.connectors.shm import SharedMemoryConnector
    store = Store(None, SharedMemoryConnector("benchmark-" + os.urandom(4).hex()), cache_size=0)
    atexit.register(lambda: store.closed or store.clear())
    return store
def files():
    from isthmus.connectors.file import FileConnector
    path = tempfile.mkdtemp(prefix="isthmus-benchmark-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Store(None, FileConnector(path), cache_size=0)
"""
PROXYSTORE = """
import atexit, shutil, tempfile
from proxystore.store import Store
from proxystore.connectors.local import LocalConnector
from proxystore.connectors.file import FileConnector
def folder(parent):
    path = tempfile.mkdtemp(prefix="proxystore-benchmark-", dir=parent)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
def named(connector):
    return Store("benchmark-" + str(id(connector)), connector, cache_size=0, register=False)
def memory():
    return named(LocalConnector())
def shared():
    return named(FileConnector(folder("/dev/shm")))
def files():
    return named(FileConnector(folder(None)))
"""
RAY = """
import os
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
import ray
if not ray.is_initialized():
    ray.init(num_cpus=1, object_store_memory=1_000_000_000, include_dashboard=False, log_to_driver=False,
             logging_level="error")
"""


def ours(kind: str, size: int) -> str:
    return OURS + ARRAY.format(size=size) + f"s = {kind}()\n"


def theirs(kind: str, size: int) -> str:
    return PROXYSTORE + ARRAY.format(size=size) + f"s = {kind}()\n"


def put_get(setup: str, side: str = "isthmus", arguments: str = "x") -> Code:
    return Code(
        f"k = s.put({arguments}); y = s.get(k)", setup, after="del y; s.evict(k)", side=side
    )


def round_trips(quick: bool) -> Iterable[Case]:
    """Yield put and get, in GB/s, by connector and size."""
    targets: dict[str, dict[str, list[Target]]] = {
        "memory": {"10 MB": [at_least(5, of="ProxyStore")]},
        "shared": {s: [at_least(1, of="Ray")] for s in ("100 kB", "10 MB", "100 MB")},
        "files": {s: [at_least(4, of="ProxyStore")] for s in ("100 kB", "10 MB", "100 MB")},
    }
    for kind, label in {"memory": "memory", "shared": "shared memory", "files": "file"}.items():
        for size, count in SIZES.items():
            if quick and size == "100 MB":
                continue
            against = {"ProxyStore": put_get(theirs(kind, count), "ProxyStore")}
            if kind == "shared":
                against["Ray"] = Code(
                    "k = ray.put(x); y = ray.get(k)",
                    RAY + ARRAY.format(size=count),
                    "",
                    "del y, k",
                    "Ray",
                )
            yield Case(
                f"{label}: put + get, {size}",
                put_get(ours(kind, count)),
                against,
                targets[kind].get(size, []),
                unit="MB/s" if count < 100_000 else "GB/s",
                amount=count,
            )


def by_reference() -> Iterable[Case]:
    """Yield what memory keeps by reference: bytes, and arrays whose owner promises not to change them."""
    count = SIZES["10 MB"]
    peer = put_get(theirs("memory", count), "ProxyStore")
    blob = "x = x.tobytes()\n"
    yield Case(
        "memory: put + get, 10 MB of bytes",
        put_get(ours("memory", count) + blob),
        {"ProxyStore": put_get(theirs("memory", count) + blob, "ProxyStore")},
        [at_least(20, of="ProxyStore")],
        unit="GB/s",
        amount=count,
    )
    yield Case(
        "memory: put + get, 10 MB, copy=False",
        put_get(ours("memory", count), arguments="x, copy=False"),
        {"ProxyStore": peer},
        [at_least(20, of="ProxyStore")],
        unit="GB/s",
        amount=count,
    )


def shared_memory(quick: bool) -> Iterable[Case]:
    """Yield the two halves of shared memory, against copying and scanning warm memory."""
    size = "10 MB" if quick else "100 MB"
    count = SIZES[size]
    copy = """
import mmap, os, tempfile
with tempfile.TemporaryFile(dir="/dev/shm") as file:
    file.truncate(x.nbytes)
    y = np.frombuffer(mmap.mmap(file.fileno(), x.nbytes), x.dtype)
y[:] = x
"""
    put = Code("k = s.put(x)", ours("shared", count), after="s.evict(k)")
    yield Case(
        f"shared memory: put, recycled, {size}",
        put,
        {
            "memcpy": Code("y[:] = x", ARRAY.format(size=count) + copy),
            "ProxyStore": Code(put.stmt, theirs("shared", count), "", put.after, "ProxyStore"),
            "Ray": Code("k = ray.put(x)", RAY + ARRAY.format(size=count), "", "del k", "Ray"),
        },
        [at_least(0.9, of="memcpy"), at_least(1, of="Ray")],
        unit="GB/s",
        amount=count,
    )
    # A space of its own every time, so nothing can be recycled.
    fresh = Code("k = s.put(x)", ours("shared", count), "s = shared()", "s.clear(); s.close()")
    yield Case(
        f"shared memory: put, fresh pages, {size}",
        fresh,
        {},
        [at_least(3)],
        unit="GB/s",
        amount=count,
    )
    for label, count in SIZES.items():
        if quick and label == "100 MB":
            continue
        yield Case(
            f"shared memory: get, {label}",
            Code("y = s.get(k)", ours("shared", count) + "k = s.put(x)\n"),
            {
                "ProxyStore": Code(
                    "y = s.get(k)", theirs("shared", count) + "k = s.put(x)\n", side="ProxyStore"
                ),
                "Ray": Code(
                    "y = ray.get(k)",
                    RAY + ARRAY.format(size=count) + "k = ray.put(x)\n",
                    side="Ray",
                ),
            },
            [at_most(10)],
            unit="µs",
        )
    count = SIZES[size]
    scan = "from numpy import add\n"
    # numpy asks for huge pages, which a scan feels; shared memory has them only where the system says so.
    small = """
import mmap
pages = mmap.mmap(-1, x.nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
pages.madvise(mmap.MADV_NOHUGEPAGE)
y = np.frombuffer(pages, x.dtype)
y[:] = x
"""
    warm = {
        "warm array": Code("add.reduce(x)", ARRAY.format(size=count) + scan),
        "warm array in 4 kB pages": Code("add.reduce(y)", ARRAY.format(size=count) + small + scan),
    }
    yield Case(
        f"shared memory: get + scan, new mapping, {size}",
        Code("add.reduce(s.get(k))", ours("shared", count) + scan, "k = s.put(x)", "s.evict(k)"),
        warm,
        [at_most(1.6, of="warm array")],
        unit="ms",
    )
    cached = "s = Store(None, s.connector)\nk = s.put(x)\n"
    yield Case(
        f"shared memory: get + scan, cached by the store, {size}",
        Code("add.reduce(s.get(k))", ours("shared", count) + scan + cached),
        warm,
        [at_most(1.3, of="warm array")],
        unit="ms",
    )


PEAKS = """
from benchmarks.memory import peak_above
s.evict(s.put(x[:1000]))
def put_peak():
    keys = []
    peak = peak_above(lambda: keys.append(s.put(x)))
    s.evict(keys[0])
    return peak / x.nbytes
def get_peak():
    key = s.put(x)
    peak = peak_above(lambda: s.get(key))
    s.evict(key)
    return peak / x.nbytes
"""


def memory_peaks() -> Iterable[Case]:
    """Yield the peak of memory above the object itself, as a multiple of it."""
    size = "100 MB"  # well above what the allocator keeps for reuse, which would not be counted
    limits = {"memory": (None, 1.0), "shared": (0.1, 0.05), "files": (None, 1.0)}
    for kind, label in {"memory": "memory", "shared": "shared memory", "files": "file"}.items():
        for verb, limit in zip(("put", "get"), limits[kind], strict=True):
            yield Case(
                f"{label}: peak memory of {verb}, {size}",
                Value(f"{verb}_peak()", ours(kind, SIZES[size]) + PEAKS),
                {
                    "ProxyStore": Value(
                        f"{verb}_peak()", theirs(kind, SIZES[size]) + PEAKS, "ProxyStore"
                    )
                },
                [at_most(limit)] if limit is not None else [],
                unit="× object",
                rounds=5,
            )


SLOW = """
import time
from concurrent.futures import ThreadPoolExecutor
from {module} import {connector}
class Slow({connector}):
    def get(self, key):
        time.sleep(0.05)
        return super().get(key)
s = Store("slow-" + __name__, Slow(), cache_size=0, register=True)
pool = ThreadPoolExecutor(8)
def resolve(proxies):
    assert list(pool.map(len, proxies)) == [1] * len(proxies)
"""


def parallel() -> Iterable[Case]:
    """Yield threads that each resolve an object of their own over a channel with 50 ms of latency."""
    ours = SLOW.format(module="isthmus.connectors.memory", connector="MemoryConnector")
    peer = SLOW.format(module="proxystore.connectors.local", connector="LocalConnector")
    make = "ps = [s.proxy([i]{}) for i in range({})]"
    lazy = ", populate_target=False"  # else ProxyStore's proxies are resolved where they are made
    yield Case(
        "8 threads, 8 objects, 50 ms each",
        Code("resolve(ps)", OURS + ours, make.format("", 8)),
        {
            "one": Code("resolve(ps)", OURS + ours, make.format("", 1)),
            "ProxyStore": Code(
                "resolve(ps)", PROXYSTORE + peer, make.format(lazy, 8), side="ProxyStore"
            ),
        },
        [at_most(1.2, of="one")],
        unit="ms",
        rounds=8,
    )


def cases(quick: bool) -> Iterable[Case]:
    """Yield the local rows of TARGETS 3: rates, halves, peaks of memory, parallel resolution."""
    yield from round_trips(quick)
    yield from by_reference()
    yield from shared_memory(quick)
    yield from memory_peaks()
    yield from parallel()


if __name__ == "__main__":
    raise SystemExit(main(["store"]))
