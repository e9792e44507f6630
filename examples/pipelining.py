"""Tasks that overlap although each needs what the one before it makes (figures 4.3 and 4.11).

Each of `n` tasks spends a fraction `f` of its time on what needs no input (imports, loading a model),
then takes its predecessor's data, computes for the rest of its time, and makes the next one's data.

*One after the other*, a task is submitted when its predecessor has ended: n tasks of s seconds take
n·s. *Pipelined*, it is submitted at once with a future's proxy for its input, and its first part
overlaps with its predecessor's second: ideally f·s + n·(1 - f)·s, as long as a worker is free for it.

    python examples/pipelining.py
    python examples/pipelining.py --tasks 8 --seconds 0.5 --bytes 10000000
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor

from isthmus.store import Future, Store
from isthmus.typing import ProxyOr


def work(
    data: ProxyOr[bytes], seconds: float, fraction: float, size: int, result: Future[bytes] | None
) -> bytes:
    """Run one task; set its result if it has a future for it, return it if not."""
    time.sleep(fraction * seconds)
    taken = len(data)  # a future's proxy waits here
    assert taken == size, f"{taken} bytes came of {size}"
    time.sleep((1 - fraction) * seconds)
    made = bytes(size)
    if result is None:
        return made
    result.set_result(made)
    return b""


def sequential(pool: Executor, tasks: int, seconds: float, fraction: float, size: int) -> float:
    """Return the makespan in seconds where each task waits for its predecessor's end."""
    began = time.perf_counter()
    data = bytes(size)
    for _ in range(tasks):
        data = pool.submit(work, data, seconds, fraction, size, None).result()
    return time.perf_counter() - began


def pipelined(
    pool: Executor, store: Store, tasks: int, seconds: float, fraction: float, size: int, width: int
) -> float:
    """Return the makespan in seconds with at most `width` tasks under way.

    More tasks at once than workers would let consumers wait in the queue; more than overlap, idle.
    """
    began = time.perf_counter()
    futures: list[Future[bytes]] = [store.future(timeout=60) for _ in range(tasks)]
    running = []
    for number, future in enumerate(futures):
        if number >= width:
            running[number - width].result()
        # The first one's, too: an executor's own pipe takes 30 to 60 ms for 10 MB.
        data = (
            store.proxy(bytes(size), evict=True)
            if number == 0
            else futures[number - 1].proxy(evict=True)
        )
        running.append(pool.submit(work, data, seconds, fraction, size, future))
    for task in running:
        task.result()
    makespan = time.perf_counter() - began
    futures[-1].evict()
    return makespan


def width_of(fraction: float) -> int:
    """Return how many tasks are under way at once where each begins as early as it is of use."""
    return 1 + math.ceil(1 / (1 - fraction))


def main(argv: Sequence[str] | None = None) -> list[tuple[float, float, float, float]]:
    """Print, and return, fraction, sequential, pipelined and ideal makespan, in seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5, help="that each task takes")
    parser.add_argument("--bytes", type=int, default=1_000_000, help="that each task makes")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.2, 0.5, 0.8])
    asked = parser.parse_args(argv)
    n, s, size = asked.tasks, asked.seconds, asked.bytes
    widest = max(map(width_of, asked.fractions))
    rows = []
    with Store() as store, ProcessPoolExecutor(widest) as pool:
        list(pool.map(time.sleep, [0.05] * widest))  # the workers are there before the clock runs
        print("   f   sequential   pipelined       ideal    less   above ideal")
        for f in asked.fractions:
            one, other = (
                sequential(pool, n, s, f, size),
                pipelined(pool, store, n, s, f, size, width_of(f)),
            )
            ideal = f * s + n * (1 - f) * s
            rows.append((f, one, other, ideal))
            print(
                f"{f:4.1f} {one:10.2f} s {other:9.2f} s {ideal:9.2f} s {1 - other / one:6.0%} "
                f"{other / ideal - 1:12.0%}"
            )
        store.clear()
    return rows


if __name__ == "__main__":
    main()
