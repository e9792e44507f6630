"""Objects in a Redis, Valkey or KeyDB server, a cluster of them, or behind sentinels: extra ``redis``."""

from isthmus.connectors.redis.access import RedisSpec
from isthmus.connectors.redis.connector import RedisConnector, RedisKey

__all__ = ["RedisConnector", "RedisKey", "RedisSpec"]
