"""Protocols as pure state machines: no asyncio, no socket, no thread, no clock. Bytes in, events out."""
