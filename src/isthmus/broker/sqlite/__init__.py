"""Logs in one SQLite file of this host: durable, shared by processes, and no server to run."""

from isthmus.broker.sqlite.broker import SQLiteBroker, SQLiteBrokerSpec

__all__ = ["SQLiteBroker", "SQLiteBrokerSpec"]
