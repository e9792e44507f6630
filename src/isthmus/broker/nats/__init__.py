"""Logs in NATS JetStream: extra ``nats``."""

from isthmus.broker.nats.broker import NatsBroker, NatsBrokerSpec

__all__ = ["NatsBroker", "NatsBrokerSpec"]
