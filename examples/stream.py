"""Figures 4.5 and 4.6: a stream between two tasks; a third process resolves what the second dispatches."""

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from isthmus.broker.sqlite import SQLiteBroker
from isthmus.connectors.file import FileConnector
from isthmus.proxy import Proxy, is_resolved
from isthmus.store import Store
from isthmus.stream import Channel, StreamConsumer, StreamProducer
from isthmus.stream.log import LogChannel

ITEMS = 5


def produce(channel: Channel, folder: str) -> None:
    with Store("chunks", FileConnector(folder)) as store:
        stores = {"topic": store}
        with StreamProducer(channel.publisher(), stores) as producer:
            for n in range(ITEMS):
                producer.send("topic", [n] * 100_000, metadata={"chunk": n})


def compute(chunk: list[int]) -> int:
    return sum(chunk)  # the data come here, straight from the producer


def dispatch(channel: Channel) -> list[int]:
    subscriber = channel.subscriber("topic", group="dispatchers")
    with (
        StreamConsumer(subscriber, timeout=60) as consumer,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client,
    ):
        tasks = []
        for item in consumer:
            assert isinstance(item, Proxy)
            tasks.append(client.submit(compute, item))
            assert not is_resolved(item)
        return [task.result() for task in tasks]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        channel = LogChannel(SQLiteBroker(f"{folder}/events.db"))
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as client:
            t1 = client.submit(produce, channel, f"{folder}/objects")
            t2 = client.submit(dispatch, channel)
            t1.result()
            assert t2.result() == [100_000 * n for n in range(ITEMS)]
        with FileConnector(f"{folder}/objects") as connector:
            assert list(connector.list()) == []  # each task deleted what it had used
    print(f"{ITEMS} chunks streamed, dispatched as proxies, and computed")


if __name__ == "__main__":
    main()
