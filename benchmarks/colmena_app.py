"""A Colmena application with no-op tasks, in the environment without ProxyStore: the process under test.

One thinker, one task server, one Parsl worker for all ways of moving data. Each way is a topic with its
own store, so that neighbours in time share every process and differ in nothing else.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any

from benchmarks.peers import ROOT
from isthmus import compat

# For the processes that Parsl starts: its program, these modules, and isthmus in ProxyStore's place.
os.environ["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
os.environ["PYTHONPATH"] = str(ROOT)
compat.install("proxystore", children=True)

import colmena.models.methods  # noqa: E402 - what it imports has to be ours
import redis  # noqa: E402
from colmena.queue.redis import RedisQueues  # noqa: E402
from colmena.task_server import ParslTaskServer  # noqa: E402
from parsl import HighThroughputExecutor  # noqa: E402
from parsl.config import Config  # noqa: E402
from proxystore.connectors.file import FileConnector  # noqa: E402
from proxystore.connectors.redis import RedisConnector  # noqa: E402
from proxystore.proxy import Proxy  # noqa: E402
from proxystore.store import Store  # noqa: E402

# Colmena resolves a task's inputs in the background. Figure 3.12 was measured without; this module is
# imported in the worker too, because that is where the task below is found.
colmena.models.methods.resolve_proxies_async = lambda _: []

THRESHOLD = 5_000  # bytes, from where on by proxy
BY_VALUE = "value"


def noop(data: bytes, size: int) -> bytes:
    """Have the input here, compute nothing, return `size` bytes."""
    assert isinstance(data, bytes)
    len(data)  # a proxy fetches
    return b"x" * size


class Queues(RedisQueues):
    """Queues that wait as long as it takes.

    redis-py 8 hangs up after 5 s without an answer and asks again, eleven times in all. Colmena waits for
    each of its messages in one such call: what was on its way when it hung up may be lost.
    """

    def connect(self) -> None:
        """Connect to the server unless that was done."""
        self.redis_client = self.redis_client or redis.Redis(
            self.hostname, self.port, decode_responses=True, socket_timeout=None
        )


class Application:
    """Everything started; `trip` sends a task and waits for its result."""

    def __init__(self, port: int) -> None:
        self._end = contextlib.ExitStack()
        folder = self._end.enter_context(tempfile.TemporaryDirectory(prefix="isthmus-colmena-"))
        connectors = {
            "redis": RedisConnector("127.0.0.1", port),
            "files": FileConnector(f"{folder}/objects"),
            "shared": None,
        }
        stores = {way: f"colmena-{os.getpid()}-{way}" for way in connectors}
        for way, name in stores.items():
            store = Store(name, connectors[way], cache_size=0, register=True)
            self._end.callback(store.close, clear=True)
        self._queues = Queues(
            [BY_VALUE, *stores],
            hostname="127.0.0.1",
            port=port,
            keep_inputs=False,  # by value they would travel back as well
            proxystore_name=stores,
            proxystore_threshold=dict.fromkeys(stores, THRESHOLD),
        )
        executor = HighThroughputExecutor(max_workers_per_node=1, address="127.0.0.1")
        config = Config(
            executors=[executor],
            strategy="none",
            strategy_period=0.5,  # seconds until it looks whether to start the worker; 5 if left out
            run_dir=f"{folder}/parsl",
        )
        server = ParslTaskServer([noop], self._queues, config)
        server.start()
        self._end.callback(server.join)
        self._end.callback(self._queues.send_kill_signal)

    def trip(self, way: str, data: bytes, size: int) -> float:
        """Return the milliseconds from sending a task to having its result here.

        Raises:
            RuntimeError: the task failed, or its result is not what it should be.
        """
        start = perf_counter()
        self._queues.send_inputs(data, size, method="noop", topic=way)
        result: Any = self._queues.get_result(topic=way, timeout=100)
        found = len(result.value) if result.success else -1  # a proxy fetches
        took = perf_counter() - start
        if found != size:
            raise RuntimeError(f"{way}: {found} bytes in place of {size}: {result.failure_info}")
        if isinstance(result.value, Proxy) != (way != BY_VALUE and size >= THRESHOLD):
            raise RuntimeError(f"{way}: {size} bytes came as a {type(result.value).__name__}")
        return took * 1e3

    def close(self) -> None:
        """End the server and its workers, delete what is stored."""
        self._end.close()


@cache
def application(port: int) -> Application:
    """Return this process's application; it ends with the process."""
    app = Application(port)
    atexit.register(app.close)
    return app


def trip(port: int, way: str, there: int, back: int) -> Callable[[], float]:
    """Return what sends one task with `there` bytes in and `back` bytes out, warmed up."""
    app, data = application(port), b"x" * there
    for _ in range(3):
        app.trip(way, data, back)
    return lambda: app.trip(way, data, back)
