"""Streams of proxies: what happened goes through a broker, the data straight from maker to user.

>>> from isthmus.store import Store
>>> from isthmus.stream import StreamConsumer, StreamProducer
>>> from isthmus.stream.memory import MemoryChannel
>>> channel = MemoryChannel("doctest")
>>> with Store() as store, StreamConsumer(channel.subscriber("numbers")) as consumer:
...     with StreamProducer(channel.publisher(), store) as producer:
...         for n in range(3):
...             producer.send("numbers", [n, n])
...     sum(sum(numbers) for numbers in consumer)
6
"""

from __future__ import annotations

from isthmus.spec import Registry
from isthmus.stream.consumer import StreamConsumer, StreamItem
from isthmus.stream.producer import StreamProducer
from isthmus.stream.protocol import (
    AcknowledgingSubscriber,
    Channel,
    Message,
    Publisher,
    Subscriber,
)

__all__ = [
    "AcknowledgingSubscriber",
    "Channel",
    "Message",
    "Publisher",
    "StreamConsumer",
    "StreamItem",
    "StreamProducer",
    "Subscriber",
    "channels",
]

channels: Registry[type[Channel]] = Registry(
    "stream channel",
    "isthmus.streams",
    {
        "memory": "isthmus.stream.memory:MemoryChannel",
        "redis-pubsub": "isthmus.stream.redis:RedisPubSubChannel",
        "redis-queue": "isthmus.stream.redis:RedisQueueChannel",
        "log": "isthmus.stream.log:LogChannel",
    },
)
"""Every channel by kind; ``channels.get(kind).from_config(options)`` makes one."""
