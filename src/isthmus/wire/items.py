"""The items of a stream that answers a request, as its reader takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.errors import StreamInterrupted
from isthmus.wire.envelope import Kind

if TYPE_CHECKING:
    from isthmus.wire.envelope import Envelope

__all__ = ["ItemReader"]


class ItemReader:
    """Takes the items of one request, each once and in order.

    Items leave before any commit, so a producer that dies amid its stream begins again at item 0 when the
    request comes again. That is the same stream only if its action says so: then what the reader has is
    left out. Else the reader is told where the one stream ended.

    Args:
        resumable: the action yields the same items when it is run again.
    """

    __slots__ = ("epoch", "last", "resumable")

    def __init__(self, *, resumable: bool = False) -> None:
        self.resumable = resumable
        #: Number of the last item taken; -1 before the first.
        self.last = -1
        #: The producer's epoch that it came from.
        self.epoch = 0

    def take(self, envelope: Envelope) -> bool:
        """Return whether an item is new, and is to be handed on.

        Raises:
            StreamInterrupted: the producer began again, and its stream is not resumable; or items are
                missing, which went to an earlier incarnation of this reader.
        """
        if envelope.epoch != self.epoch:
            if self.epoch and not self.resumable:
                raise StreamInterrupted(self.last)
            self.epoch = envelope.epoch
        if envelope.item <= self.last:
            return False
        if envelope.item > self.last + 1:
            raise StreamInterrupted(self.last)
        self.last = envelope.item
        return True

    def end(self, reply: Envelope) -> None:
        """Take the answer that ends the stream.

        Raises:
            StreamInterrupted: there were more items than came.
        """
        if reply.kind == Kind.REPLY and reply.item != self.last + 1:
            raise StreamInterrupted(self.last)
