"""What a connector is: bytes in, bytes out, over some mediated channel.

The nine methods of :class:`Connector` are all that a store needs (dissertation, 3.2.4). What only some
channels can do stands in protocols of its own below; a store asks with ``isinstance``. The suite in
:mod:`isthmus.testing` holds any connector, a third party's too, to what these docstrings say.
"""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from isthmus.spec import Spec

__all__ = [
    "BellConnector",
    "Buffer",
    "Connector",
    "HoldingConnector",
    "LeasingConnector",
    "ListableConnector",
    "ObjectInfo",
    "Payload",
    "RangeConnector",
    "ReservingConnector",
    "TypedConnector",
    "WaitingConnector",
]

Buffer: TypeAlias = "bytes | bytearray | memoryview"
"""One run of bytes; a memoryview must be C-contiguous."""

Payload: TypeAlias = "Buffer | Sequence[Buffer]"
"""An object to store: one buffer, or the pieces of it in order (no need to join them)."""

K = TypeVar("K", bound=tuple[Any, ...])
K_co = TypeVar("K_co", bound=tuple[Any, ...], covariant=True)
K_contra = TypeVar("K_contra", bound=tuple[Any, ...], contravariant=True)


@runtime_checkable
class Connector(Protocol[K]):
    """A client of a mediated channel.

    Safe for use by many threads at once. After a fork the child reopens what it needs by itself. Keys
    are named tuples of plain values (``str``, ``int``, ``bytes``), so they travel in any format.
    """

    # Class attributes; properties here because a mutable attribute would have to match exactly.
    @property
    def kind(self) -> str:
        """Name in the registry of connectors."""
        ...

    @property
    def spec_type(self) -> type[Spec]:
        """Struct whose fields are the constructor's arguments."""
        ...

    @property
    def key_type(self) -> type[tuple[Any, ...]]:
        """The named tuple that `put` returns."""
        ...

    @property
    def spec(self) -> Spec:
        """What another process needs to open the same channel; never a secret."""
        ...

    def close(self) -> None:
        """Release handles; idempotent; deletes no data. Later calls raise ``ClosedError``."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain builtins: ``self.spec.config()``."""
        ...

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Open a connector from what `config` returned.

        Raises:
            SpecError: a field is unknown, missing, or of the wrong type.
        """
        ...

    def evict(self, key: K) -> None:
        """Delete an object; no error if there is none. Views handed out before stay valid."""
        ...

    def exists(self, key: K) -> bool:
        """Return whether a complete object lies under `key`."""
        ...

    def get(self, key: K) -> Buffer | None:
        """Return the object's bytes, or None if there is no such object.

        A view where the channel allows one; writing to it never reaches the stored object.

        Raises:
            KeyTypeError: `key` is not one of this connector's.
            BrokenError: the channel did not answer.
        """
        ...

    def get_batch(self, keys: Sequence[K]) -> list[Buffer | None]:
        """Return the objects under several keys, in order, None for each that is missing."""
        ...

    def put(self, obj: Payload) -> K:
        """Store an object; visible to others only when complete.

        Raises:
            FullError: there is no room; nothing was stored.
            BrokenError: the channel did not answer.
        """
        ...

    def put_batch(self, objs: Sequence[Payload]) -> list[K]:
        """Store several objects; where one fails, those stored before it stay."""
        ...


@runtime_checkable
class ReservingConnector(Protocol[K]):
    """Can hand out a key before the object exists (futures and set-once objects need it)."""

    def reserve(self) -> K:
        """Return a fresh key under which nothing lies yet."""
        ...

    def put_at(self, key: K, obj: Payload) -> bool:
        """Store an object under a reserved key, atomically, if none lies there.

        Returns:
            True if this call stored it, False if an object was there already (which stays).
        """
        ...


@runtime_checkable
class WaitingConnector(Protocol[K_contra]):
    """Can wait for an object that somebody else will store."""

    def wait(self, key: K_contra, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`; False if `timeout` seconds passed without one."""
        ...


@runtime_checkable
class BellConnector(Protocol[K_co]):
    """Can hear of whatever is stored under reserved keys: one listener serves all who wait."""

    def bell(self) -> AbstractContextManager[Callable[[float], Sequence[K_co]]]:
        """Listen from now on, until the context ends.

        What comes back waits at most so many seconds and returns the keys under which `put_at` stored
        something since. A ring may be missed while a server fails over: look now and then.
        """
        ...


@runtime_checkable
class RangeConnector(Protocol[K_contra]):
    """Can read a part of an object."""

    def get_range(self, key: K_contra, offset: int, size: int) -> Buffer | None:
        """Return up to `size` bytes from `offset`, fewer at the end; None if there is no object.

        Raises:
            ValueError: `offset` or `size` is negative.
        """
        ...


@runtime_checkable
class HoldingConnector(Protocol[K]):
    """Lives in this process's memory, and so can keep objects as they are."""

    def put_object(self, obj: Any, *, copy: bool = True) -> K | None:
        """Keep an object without encoding it; None if it has to be encoded.

        Args:
            obj: any object.
            copy: False promises that nobody will change the object, which makes any object fit.
        """
        ...

    def get_object(self, key: K, default: Any = None) -> Any:
        """Return the very object that was kept, `default` if the key's is no such object.

        `get` returns such an object's encoding: ``isthmus.codec.serialize(obj)``.
        """
        ...


@runtime_checkable
class TypedConnector(Protocol):
    """Wants to know the class of what it stores: ``put`` takes it as `of`, ``put_batch`` a list of them."""

    @property
    def takes_type(self) -> bool:
        """Whether it does; a wrapper answers for what it wraps."""
        ...


class ObjectInfo(NamedTuple):
    """What is known of a stored object without reading it."""

    key: tuple[Any, ...]
    size: int
    """Bytes as stored."""
    created: float
    """Unix time in seconds."""
    owner: str
    """``host:pid`` of the process that stored it, or an empty string."""
    until: float | None = None
    """Unix time at which its lease runs out; None without a lease, or where that is not known here."""


@runtime_checkable
class ListableConnector(Protocol[K_contra]):
    """Can say what it holds, and delete what is of no use to anybody."""

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every complete object; one that comes or goes meanwhile may be missed."""
        ...

    def stat(self, key: K_contra) -> ObjectInfo | None:
        """Return what is known of one object, None if there is none."""
        ...

    def clear(self) -> int:
        """Delete every object of this connector's storage; return how many."""
        ...

    def sweep(self) -> int:
        """Delete what killed processes left unfinished, and objects whose lease has run out.

        Never touches an object without a lease or whose lease was renewed in time, nor one that a live
        process is still writing.

        Returns:
            The bytes freed.
        """
        ...


@runtime_checkable
class LeasingConnector(Protocol[K_contra]):
    """Gives objects a deadline: who wants one for longer renews it in time.

    ``put``, ``put_batch`` and ``put_at`` of such a connector also take ``lease`` (seconds, or None) and
    ``held``, which mean what `lease` says, for every object of the call. The lease is there when the
    object is: a producer that is killed right after leaves nothing without a deadline.

    The seconds count on a clock that nobody sets. An object that is overdue may still be found until it
    was swept: when a connector opens the storage, when a process that stores leased objects does so again,
    and in ``sweep()``.
    """

    def lease(self, key: K_contra, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now unless its lease is renewed by then.

        Args:
            key: of the object.
            seconds: positive; None to keep it until it is evicted.
            held: the deadline counts only once this process has ended, where the channel can tell: in
                memory, in shared memory and in files of one host. So a process that is suspended loses
                nothing. Elsewhere the deadline counts always.

        Returns:
            False if there is no object under `key`.

        Raises:
            ValueError: `seconds` is not a positive, finite number.
        """
        ...

    def renew(self, keys: Sequence[K_contra]) -> list[bool]:
        """Begin the period of each object's lease anew; one operation where the channel has one.

        Returns:
            For each key, in order: False if its object is gone or has no lease.
        """
        ...
