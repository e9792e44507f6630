"""What travels between mailboxes: envelopes around opaque payloads, and acknowledgements.

A head is a MessagePack array (msgspec), one buffer; the payload's buffers follow it as they are, uncopied.
Whom a message is for is known to the path (the topic of a log, the connection's handshake); where one
connection serves several mailboxes, `Envelope.to` says it.
"""

from __future__ import annotations

from collections.abc import Buffer, Sequence
from enum import IntEnum
from hashlib import blake2b

import msgspec

from isthmus.errors import RemoteProtocolError
