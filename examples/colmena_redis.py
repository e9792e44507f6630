"""A Colmena application as its users write it: Redis queues, a Parsl task server, data through a store.

Nothing here names isthmus. With ProxyStore not installed, isthmus takes its place:

    ISTHMUS_COMPAT=proxystore python examples/colmena_redis.py --redis 127.0.0.1:6379

The thinker sends blocks of numbers, one after the other, and checks what comes back. It prints one line of
JSON: the median time of a task by size of the block, and how many inputs and results were proxies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from time import perf_counter
from typing import Any

import numpy as np
from colmena.models import Result
from colmena.queue.redis import RedisQueues
from colmena.task_server import ParslTaskServer
from colmena.thinker import BaseThinker, agent
from parsl import HighThroughputExecutor, ThreadPoolExecutor
from parsl.config import Config
from proxystore.connectors.file import FileConnector
from proxystore.connectors.redis import RedisConnector
from proxystore.proxy import Proxy
from proxystore.store import Store


def double(block: np.ndarray) -> np.ndarray:
    import numpy as np  # a task brings its imports along: a script's functions travel without them

    assert isinstance(block, np.ndarray)
    return 2 * block


class Doubler(BaseThinker):
    """Sends a block, waits for its double, sends the next."""

    def __init__(self, queues: RedisQueues, sizes: list[int], tasks: int) -> None:
        super().__init__(queues)
        self.sizes = sizes
        self.tasks = tasks
        self.failures: list[str] = []
        self.proxied_inputs = 0
        self.proxied_results = 0
        self.milliseconds: dict[int, float] = {}

    @agent
    def steer(self) -> None:
        rng = np.random.default_rng(1)
        self.ask(np.arange(10.0))  # workers start with the first task
        self.proxied_inputs = self.proxied_results = 0
        for size in self.sizes:
            times = [self.ask(rng.random(size // 8)) for _ in range(self.tasks)]
            self.milliseconds[size] = 1e3 * statistics.median(times)

    def ask(self, block: np.ndarray) -> float:
        """Return the seconds from sending a block to having its double."""
        start = perf_counter()
        self.queues.send_inputs(block, method="double", keep_inputs=True)
        result: Result = self.queues.get_result()
        if not result.success:
            self.failures.append(str(result.failure_info))
        elif not np.array_equal(result.value, 2 * block):
            self.failures.append(f"wrong double of {block.nbytes} bytes")
        seconds = perf_counter() - start
        self.proxied_inputs += isinstance(result.args[0], Proxy)
        self.proxied_results += isinstance(result.value, Proxy)
        return seconds


def open_store(kind: str, host: str, port: int, folder: str) -> Store[Any] | None:
    """Register a store of a kind; None where everything is to travel by value."""
    if kind == "none":
        return None
    connector = (
        RedisConnector(host, port, clear=True)
        if kind == "redis"
        else FileConnector(folder, clear=True)
    )
    return Store(f"blocks-{kind}", connector, metrics=True, register=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Colmena with Redis queues, Parsl and a store.")
    parser.add_argument("--redis", default="127.0.0.1:6379", help="host:port of the server")
    parser.add_argument("--store", default="redis", choices=["redis", "files", "none"])
    parser.add_argument("--executor", default="htex", choices=["htex", "threads"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--tasks", type=int, default=5, help="of each size")
    parser.add_argument(
        "--threshold", type=int, default=5_000, help="bytes, from where on by proxy"
    )
    options = parser.parse_args()
    host, _, port = options.redis.partition(":")

    with tempfile.TemporaryDirectory() as folder:
        store = open_store(options.store, host, int(port), f"{folder}/blocks")
        queues = RedisQueues(
            topics=[],
            hostname=host,
            port=int(port),
            proxystore_name=None if store is None else store.name,
            proxystore_threshold=None if store is None else options.threshold,
        )
        executor = (
            HighThroughputExecutor(max_workers_per_node=1, address="127.0.0.1")
            if options.executor == "htex"
            else ThreadPoolExecutor(max_threads=1)
        )
        config = Config(executors=[executor], strategy="none", run_dir=f"{folder}/parsl")
        server = ParslTaskServer([double], queues, config)
        thinker = Doubler(queues, options.sizes, options.tasks)
        server.start()
        try:
            thinker.run()
        finally:
            queues.send_kill_signal()
            server.join()
            if store is not None:
                store.close()
    print(
        json.dumps(
            {
                "milliseconds": thinker.milliseconds,
                "proxied_inputs": thinker.proxied_inputs,
                "proxied_results": thinker.proxied_results,
                "failures": thinker.failures,
            }
        )
    )


if __name__ == "__main__":
    main()
