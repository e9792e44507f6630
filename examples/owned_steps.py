"""A workflow in three steps whose objects go when nobody needs them any more (figures 4.7 and 4.8).

python examples/owned_steps.py
python examples/owned_steps.py --numbers 1000000
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from isthmus.store import Store, borrow, mut_borrow, update
from isthmus.store.executor import ProxySize, StoreExecutor
from isthmus.store.scopes import submit


def draw(count: int) -> list[float]:
    return random.Random(7).choices(range(1000), k=count)  # type: ignore[return-value]


def scale(numbers: list[float], factor: float) -> None:
    numbers[:] = [number * factor for number in numbers]
    update(numbers)  # type: ignore[arg-type]


def main(argv: Sequence[str] | None = None) -> tuple[float, int]:
    """Return the result, and how many objects are left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--numbers", type=int, default=10_000)
    count = parser.parse_args(argv).numbers
    with Store("owned-steps") as store:
        pool = ProcessPoolExecutor(2)
        with StoreExecutor(pool, store, should_proxy=ProxySize(10_000)) as executor:
            numbers = executor.submit(draw, count).result()  # owned here, made there
            submit(pool.submit, args=(scale, mut_borrow(numbers), 0.5)).result()
            sums = [submit(pool.submit, args=(sum, borrow(numbers))) for _ in range(3)]
            (total,) = {future.result() for future in sums}
            del numbers
        left = sum(1 for _ in store.connector.list())  # type: ignore[attr-defined]
    print(f"{count} numbers, half their sum {total}, {left} objects left")
    return total, left


if __name__ == "__main__":
    main()
