"""Logs in Redis Streams, on a Redis, Valkey or KeyDB server: extra ``redis``."""

from isthmus.broker.redis.broker import RedisBroker, RedisBrokerSpec

__all__ = ["RedisBroker", "RedisBrokerSpec"]
