"""Parsl's own ProxyStore serializer, as its documentation has it; a script for test_colmena.py.

Arguments of the given size and above go through the store instead of Parsl's messages.
"""

import sys

import parsl
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.serialize.facade import (
    additional_methods_for_deserialization,
    methods_for_data,
    register_method_for_data,
)
from parsl.serialize.proxystore import ProxyStoreSerializer
from proxystore.connectors.file import FileConnector
from proxystore.store import Store


def measure(data: bytes) -> tuple[bool, int]:
    from proxystore.proxy import is_resolved
    from proxystore.store import get_store

    return get_store(data).name == "hooked" and not is_resolved(data), len(data)


if __name__ == "__main__":
    folder = sys.argv[1]
    with Store("hooked", FileConnector(f"{folder}/objects"), register=True) as store:
        hook = ProxyStoreSerializer(
            should_proxy=lambda obj: isinstance(obj, bytes) and len(obj) >= 1000, store=store
        )
        # Parsl takes the first method that works, and results come back by the one that was the first.
        additional_methods_for_deserialization.update(methods_for_data)
        methods_for_data.clear()
        register_method_for_data(hook)
        config = Config(
            executors=[HighThroughputExecutor(max_workers_per_node=1, address="127.0.0.1")],
            strategy="none",
            run_dir=f"{folder}/runs",
        )
        with parsl.load(config):
            print(parsl.python_app(measure)(b"x" * 100_000).result())
