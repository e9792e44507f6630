"""Streams over the logs of `isthmus.broker`: memory, SQLite, Redis Streams, NATS JetStream, and yours."""

from isthmus.stream.log.channel import LogChannel, LogChannelSpec

__all__ = ["LogChannel", "LogChannelSpec"]
