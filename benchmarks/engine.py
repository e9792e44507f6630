"""What the benchmark engine adds to an executor for each task (TARGETS 7)."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.harness import Case, Code, Value, at_most
from benchmarks.run import main

TITLE = "Benchmark engine: microseconds for each no-op task, two workers (TARGETS 7)"

SETUP = """
import multiprocessing, os, tempfile, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from isthmus.bench.engine import Engine
from isthmus.bench.executor.configs import DaskConfig, ParslHTEXConfig, ProcessConfig, ThreadConfig
from isthmus.bench.records import JSONRecordLogger

noop = bool  # importable everywhere, and the quickest call there is

def engine(config):
    return Engine(config.get_executor(), record_logger=records())

def records():
    return JSONRecordLogger(tempfile.mkstemp(prefix="isthmus-bench-")[1])

def task(executor, count, **options):
    start = time.perf_counter()
    for future in [executor.submit(noop, **options) for _ in range(count)]:
        future.result()
    return (time.perf_counter() - start) / count * 1e6  # the unit of the rows

def warm(executor, **options):
    task(executor, 50, **options)
    return executor
"""

SPAWN = "warm(ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn')))"
# The very kernel that ours runs on, through Parsl's own decorator, which wants a function with a signature.
PARSL = """
import parsl
kernel = ParslHTEXConfig(workers=2).get_executor().kernel
noop = parsl.python_app(os.getpid, data_flow_kernel=kernel, cache=False)
class Bare:
    def submit(self, app):
        return app()
executor = warm(Bare())
"""
DASK = "warm(DaskConfig(workers=2).get_executor().client, pure=False)"
PROGRAM = """
import os, subprocess, sys
command = os.path.join(os.path.dirname(sys.executable), "isthmus")
def program(*arguments):
    subprocess.run([command, *arguments], check=True, stdout=subprocess.DEVNULL)
"""


def per_task(executor: str, count: int, options: str = "") -> Value:
    """Time a batch of no-op tasks: submit all, then take every result."""
    return Value(f"task(executor, {count}{options})", f"{SETUP}\nexecutor = {executor}")


def cases(quick: bool) -> Iterable[Case]:
    """Yield the engine rows. The bare executor is the standard library's, or Dask's own client."""
    threads = "warm(engine(ThreadConfig(max_threads=2)))"
    yield Case(
        "threads",
        per_task(threads, 2000),
        {"bare": per_task("warm(ThreadPoolExecutor(2))", 2000)},
        [at_most(45)],
    )
    yield Case(
        "threads, the record of a task",
        per_task(threads, 2000),
        {"no records": per_task("warm(Engine(ThreadPoolExecutor(2)))", 2000)},
        [at_most(10, over="no records")],
    )
    yield Case(
        "processes",
        per_task("warm(engine(ProcessConfig(max_processes=2)))", 1000),
        {"bare": per_task(SPAWN, 1000)},
        [at_most(1.3, of="bare")],
        rounds=25,
    )
    yield Case(
        "Dask",
        per_task("warm(engine(DaskConfig(workers=2)))", 100 if quick else 200),
        {"bare": per_task(DASK, 100 if quick else 200, ", pure=False")},
        [at_most(1.1, of="bare")],
        budget=45,
    )
    parsl = "warm(engine(ParslHTEXConfig(workers=2)))"
    count = 250 if quick else 500
    yield Case(
        "Parsl, high throughput",
        Value(f"task(executor, {count})", f"{SETUP}\nnoop = os.getpid\nexecutor = {parsl}"),
        {"bare": Value(f"task(executor, {count})", f"{SETUP}\n{PARSL}")},
        [at_most(1.1, of="bare")],
        budget=45,
    )
    yield Case(
        "isthmus bench --help",
        Code("program('bench', '--help')", PROGRAM),
        {"bare": Code("subprocess.run([sys.executable, '-c', 'pass'], check=True)", PROGRAM)},
        [at_most(150)],
        unit="ms",
    )


if __name__ == "__main__":
    raise SystemExit(main(["engine"]))
