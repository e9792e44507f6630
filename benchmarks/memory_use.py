"""Memory in use during a series of map-reduces (figure 4.13): by value, and by proxies, evicted or not.

Each of `mappers` tasks takes an input and makes a smaller output; one reducer takes all outputs; so it goes
`rounds` times. Tasks also sleep, as the figure's do. A trace has, over time, the anonymous memory of the
processes and the bytes that lie in the store; what is merely mapped is not counted twice.

    python -m benchmarks.memory_use        # small: 4 rounds, 8 mappers, 4 MB in, 0.4 MB out
    python -m benchmarks.memory_use --rounds 8 --mappers 32 --input 100000000 --output 10000000 \\
        --seconds 5 --workers 32 --repeats 3    # the figure's: 3.5 GB for each round that nobody frees

Writes ``memory_use.json`` (every trace) and ``memory_use.svg`` to ``benchmarks/out/``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from isthmus.store import Store, get_key, get_store
from isthmus.store.lifetime import ContextLifetime, Lifetime

OUT = Path(__file__).parent / "out"
EVERY_SECONDS = 0.02
COLOURS = ("#888888", "#c0392b", "#2471a3", "#1e8449", "#9a7d0a")


class Work(NamedTuple):
    """What a map-reduce is made of."""

    mappers: int
    input: int
    output: int
    seconds: float


Trace = list[tuple[float, int, int]]
"""Seconds since the start, bytes of processes, bytes in the store."""


def mapper(data: Any, work: Work) -> bytes:
    """Take an input and make an output."""
    assert len(data) == work.input
    time.sleep(work.seconds)
    return os.urandom(1) * work.output


def mapper_by_proxy(data: Any, work: Work) -> Any:
    """Return the output as a proxy, in the input's store."""
    store = get_store(data)
    assert store is not None
    return store.proxy(mapper(data, work))


def reducer(outputs: Sequence[Any], work: Work) -> int:
    """Take all outputs."""
    time.sleep(work.seconds)
    return sum(len(data) for data in outputs)


def by_value(pool: Executor, store: Store, work: Work) -> int:
    """Send the data along with the tasks."""
    data = bytes(work.input)
    outputs = [f.result() for f in [pool.submit(mapper, data, work) for _ in range(work.mappers)]]
    return pool.submit(reducer, outputs, work).result()


def _proxies(
    pool: Executor, store: Store, work: Work, lifetime: Lifetime | None
) -> tuple[list[Any], list[Any], int]:
    """Return the proxies of inputs and outputs, and the reducer's result."""
    inputs = [store.proxy(bytes(work.input), lifetime=lifetime) for _ in range(work.mappers)]
    tasks = [pool.submit(mapper_by_proxy, proxy, work) for proxy in inputs]
    outputs = [task.result() for task in tasks]
    if lifetime is not None:
        lifetime.add_proxy(*outputs)
    return inputs, outputs, pool.submit(reducer, outputs, work).result()


def by_default(pool: Executor, store: Store, work: Work) -> int:
    """Send proxies, and evict nothing."""
    return _proxies(pool, store, work, None)[2]


def by_hand(pool: Executor, store: Store, work: Work) -> int:
    """Send proxies; whoever wrote the program knows when each object was used last."""
    inputs, outputs, total = _proxies(pool, store, work, None)
    for proxy in (*inputs, *outputs):
        store.evict(get_key(proxy))
    return total


def by_lifetime(pool: Executor, store: Store, work: Work) -> int:
    """Send proxies of objects that end with their map-reduce."""
    with ContextLifetime(store) as lifetime:
        return _proxies(pool, store, work, lifetime)[2]


VARIANTS: dict[str, Callable[[Executor, Store, Work], int]] = {
    "by value": by_value,
    "default": by_default,
    "manual": by_hand,
    "lifetimes": by_lifetime,
}
"""One map-reduce each; another way to manage memory is another line."""


def traced(variant: str, work: Work, rounds: int, workers: int) -> tuple[float, Trace]:
    """Return the makespan in seconds, and the memory over time."""
    run = VARIANTS[variant]
    # No cache: what a process keeps for later is not what is measured.
    context = multiprocessing.get_context("forkserver")
    with Store(cache_size=0) as store, ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(time.sleep, [0.2] * workers))
        trace: Trace = []
        over = threading.Event()
        began = time.monotonic()

        def sample() -> None:
            connector: Any = store.connector
            last = False
            while not last:
                last = over.is_set()  # once more, with what is left
                stored = sum(info.size for info in connector.list())
                trace.append((time.monotonic() - began, sum(map(_anonymous, _family())), stored))
                over.wait(EVERY_SECONDS)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            for _ in range(rounds):
                assert run(pool, store, work) == work.mappers * work.output
            makespan = time.monotonic() - began
        finally:
            over.set()
            sampler.join()
            store.clear()
    return makespan, trace


def _family() -> list[int]:
    """Return this process and all below it."""
    found = [os.getpid()]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                found += map(int, children)
        except OSError:  # it has ended
            continue
    return found


def _anonymous(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = (line for line in status.splitlines() if line.startswith("RssAnon"))
    return sum(int(line.split()[1]) * 1024 for line in lines)


def drawn(traces: dict[str, list[Trace]]) -> str:
    """Return an SVG with a line for each trace: memory of processes and store together, over time."""
    width, height, left, bottom = 640, 320, 60, 280
    longest = max(trace[-1][0] for several in traces.values() for trace in several)
    most = max(a + b for several in traces.values() for trace in several for _, a, b in trace)
    parts = []
    for number, (label, several) in enumerate(traces.items()):
        colour = COLOURS[number % len(COLOURS)]
        for trace in several:
            points = " ".join(
                f"{left + (width - left - 10) * at / longest:.1f},{bottom - 260 * (a + b) / most:.1f}"
                for at, a, b in trace
            )
            parts.append(f'<polyline fill="none" stroke="{colour}" points="{points}"/>')
        parts.append(f'<text x="{left + 10 + 140 * number}" y="14" fill="{colour}">{label}</text>')
    parts += [
        f'<path d="M{left} 20V{bottom}H{width - 10}" fill="none" stroke="#444"/>',
        f'<text x="{left - 6}" y="30" text-anchor="end">{most / 1e6:.0f} MB</text>',
        f'<text x="{left - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{width - 10}" y="{bottom + 20}" text-anchor="end">{longest:.1f} s</text>',
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">{"".join(parts)}</svg>\n'
    )


def main(argv: Sequence[str] | None = None) -> dict[str, list[Trace]]:
    """Run all variants in turn, print what is left at the end of each, write traces and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--mappers", type=int, default=8)
    parser.add_argument("--input", type=int, default=4_000_000, help="bytes that a mapper takes")
    parser.add_argument("--output", type=int, default=400_000, help="bytes that it makes")
    parser.add_argument("--seconds", type=float, default=0.05, help="that each task sleeps")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(argv)
    work = Work(asked.mappers, asked.input, asked.output, asked.seconds)
    traces: dict[str, list[Trace]] = {variant: [] for variant in asked.variants}
    makespans: dict[str, list[float]] = {variant: [] for variant in asked.variants}
    for _ in range(asked.repeats):
        for variant in asked.variants:
            makespan, trace = traced(variant, work, asked.rounds, asked.workers)
            traces[variant].append(trace)
            makespans[variant].append(makespan)
            peak, stored = max(a + b for _, a, b in trace), trace[-1][2]
            print(
                f"{variant:10} {makespan:6.2f} s, at most {peak / 1e6:7.1f} MB, "
                f"{stored / 1e6:7.1f} MB in the store at the end"
            )
    asked.out.mkdir(parents=True, exist_ok=True)
    facts = {"work": work._asdict(), "rounds": asked.rounds, "workers": asked.workers}
    data = {**facts, "makespans": makespans, "traces": traces}
    (asked.out / "memory_use.json").write_text(json.dumps(data))
    (asked.out / "memory_use.svg").write_text(drawn(traces))
    return traces


if __name__ == "__main__":
    main()
