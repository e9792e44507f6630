"""What a connection may take: bytes and seconds."""

from __future__ import annotations

from isthmus.spec import Spec

__all__ = ["Limits"]


class Limits(Spec):
    """Bounds of a connection, in bytes and seconds.

    Args:
        max_frame_bytes: what a received frame may have; a larger one breaks the connection.
        send_bytes: `drain` waits while more than that is queued.
        receive_bytes: nothing is read from the socket while more than that waits to be received.
        open_seconds: for connecting and all handshakes.
        beat_seconds: something is sent at least that often; 0: no such promise.
        dead_seconds: a peer that promised to send, and sent nothing for so long, is dead.
        close_seconds: for sending the rest when closing, and for the peer to take it.
    """

    max_frame_bytes: int = 1 << 30
    send_bytes: int = 1 << 22
    receive_bytes: int = 1 << 22
    open_seconds: float = 10.0
    beat_seconds: float = 5.0
    dead_seconds: float = 15.0
    close_seconds: float = 5.0
