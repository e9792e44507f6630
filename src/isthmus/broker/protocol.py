"""What a broker is: logs of opaque records, and groups of consumers that share a log's records.

All of it is asynchronous. A handle belongs to the event loop that first used it; a program without one
goes through a bridge. Every method raises `BrokenError` when the backend did not do its part. What an
`append` that raised it has stored is then unknown: all of it or nothing (but see `Broker.atomic`); whoever
appends again may store it twice, so records that matter carry a number of their sender's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from isthmus.spec import Spec

__all__ = ["Broker", "Delivery", "Group", "Log", "LogInfo", "Progress", "Record"]


class Record(NamedTuple):
    """One record of a log."""

    position: int
    """At least 1; grows with every append to the log, in steps of any size."""
    data: bytes


class Delivery(NamedTuple):
    """A record that a consumer of a group has to acknowledge."""

    position: int
    data: bytes
    attempt: int
    """How often the record was delivered, this time included: 1 the first time."""


class Progress(NamedTuple):
    """How far a group has come in its log."""

    done: int
    """The group is done with every record up to this position; 0 if it is with none."""
    delivered: int
    """Every record up to this position was delivered at least once, or trimmed."""


class LogInfo(NamedTuple):
    """The state of a log at one moment."""

    records: int
    """How many it keeps."""
    bytes: int
    """What counts against `max_bytes`: the records' data and, on NATS, what the server adds to each."""
    first: int
    """Position of the oldest record that is kept; 0 if there is none."""
    last: int
    """Position of the newest record ever appended, kept or not; 0 if there was none."""
    max_records: int | None
    max_bytes: int | None


@runtime_checkable
class Group(Protocol):
    """Consumers that share a log: each record is delivered to one of them until it is acknowledged.

    Whoever does not acknowledge a record within `ack_wait` seconds, nor extends them, loses it to whoever
    reads next. So a record may be delivered more than once, to consumers that never hear of each other.
    """

    name: str

    async def read(
        self, consumer: str, *, limit: int = 64, timeout: float | None = 0
    ) -> list[Delivery]:
        """Take at most `limit` records: those whose time ran out or that were released, then new ones.

        A read that is cancelled may have taken some; they come back after `ack_wait`.

        Args:
            consumer: who takes them: a name that tells people who has what.
            limit: at most so many.
            timeout: seconds to wait for the first; None waits for ever. What is there is not waited for.
        """

    async def acknowledge(self, positions: Sequence[int]) -> None:
        """Be done with records, whoever has them now; they are not delivered to this group again."""

    async def extend(self, positions: Sequence[int]) -> None:
        """Begin the `ack_wait` of delivered records anew."""

    async def release(self, positions: Sequence[int]) -> None:
        """Give records back unfinished: they are delivered again at once, to whoever reads."""

    async def pending(self) -> int:
        """Return how many records are delivered and not acknowledged."""

    async def progress(self) -> Progress:
        """Return how far the group has come; what all groups of a log are done with can be trimmed."""

    async def delete(self) -> None:
        """Delete the group; no error if there is none. Records stay."""


@runtime_checkable
class Log(Protocol):
    """One topic, one mailbox. Every method raises `MissingLogError` after the log was deleted."""

    name: str

    async def append(self, items: Sequence[bytes]) -> list[int]:
        """Store records in this order and return their positions.

        They are as durable as `Broker.durability` says when it returns. All of one call or none.

        Raises:
            FullError: they would exceed a bound of the log or of the backend; nothing is stored.
        """

    async def read(
        self, after: int = 0, *, limit: int = 256, max_bytes: int = 1 << 20
    ) -> list[Record]:
        """Return records beyond a position, in order; an empty list at the end.

        Args:
            after: position of the last record that is not wanted.
            limit: at most so many, and at least one.
            max_bytes: of data; a larger record comes alone.
        """

    async def wait(self, after: int, timeout: float | None = None) -> bool:
        """Wait until there is a record beyond `after`: at most `timeout` seconds, None: for ever."""

    async def trim(self, through: int) -> int:
        """Forget records up to and including a position, and return how many there were.

        Groups forget them too, delivered or not.
        """

    async def stat(self) -> LogInfo:
        """Return how much there is, and where it begins and ends."""

    async def group(self, name: str, *, start: int = 0, ack_wait: float | None = None) -> Group:
        """Return a group of consumers, made if there is none of this name.

        Args:
            name: of the group, within the log.
            start: a new group is delivered what comes after this position.
            ack_wait: seconds that a consumer has to acknowledge a record. None leaves it as it is; a new
                group has 30.
        """

    async def delete(self) -> None:
        """Delete the log, its records and its groups; no error if there is none."""


@runtime_checkable
class Broker(Protocol):
    """A connection to a backend that keeps logs. Made without I/O; connects when first used."""

    kind: ClassVar[str]
    durability: ClassVar[str]
    """What survives when `append` has returned, in words."""
    atomic: ClassVar[bool]
    """Whether an `append` of several records that failed or was cut off is never there in part."""

    @property
    def spec(self) -> Spec:
        """What another process needs to reach the same logs."""

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain builtins."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Make a broker from what `config` returned."""

    async def open(
        self, name: str, *, max_records: int | None = None, max_bytes: int | None = None
    ) -> Log:
        """Return a log, made if there is none of this name.

        Args:
            name: 1 to 128 ASCII letters, digits, and any of ``. _ : -``.
            max_records: how many records it may keep. None leaves the bound as it is; a new log has none.
            max_bytes: how many bytes, likewise. A bound below what is there keeps it and stops appends.
        """

    async def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""

    async def aclose(self) -> None:
        """Release handles; idempotent; deletes nothing. What waits raises `ClosedError`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *_: object) -> None: ...
