"""Streams over a Redis server: publish/subscribe, and queues. Its logs are `isthmus.stream.log`'s."""

from isthmus.stream.redis.pubsub import RedisPubSubChannel, RedisPubSubSpec
from isthmus.stream.redis.queue import RedisQueueChannel, RedisQueueSpec

__all__ = ["RedisPubSubChannel", "RedisPubSubSpec", "RedisQueueChannel", "RedisQueueSpec"]
