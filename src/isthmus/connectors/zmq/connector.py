"""Objects in the memory of the node that made them; other nodes fetch them straight from there."""

from __future__ import annotations

import math
import re
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.leases import terms
from isthmus.connectors.naming import fresh_name, is_name, owner
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.protocol import Buffer, ObjectInfo
from isthmus.connectors.zmq.access import ZmqSpec
from isthmus.connectors.zmq.channel import Channel, Place
from isthmus.connectors.zmq.messages import (
    Clear,
    EntryInfo,
    Evict,
    Exists,
    Lease,
    ListEntries,
    Renew,
    Stat,
    Sweep,
    Wait,
)
from isthmus.connectors.zmq.transfer import (
    SMALL_AHEAD,
    expect,
    fetch,
    fetch_all,
    fetch_range,
    small,
    store,
)
from isthmus.errors import BrokenError, KeyTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from isthmus.connectors.protocol import Payload
    from isthmus.connectors.zmq.link import Link
    from isthmus.connectors.zmq.messages import Request

__all__ = ["ZmqConnector", "ZmqKey"]

_SERVER = re.compile(r"[0-9a-f]{8}-[0-9a-f]{16}-[0-9a-f]{8}")
_RENEWED_AT_ONCE = 10_000  # a request must fit into one message, and others want to be heard
_WAIT_SECONDS = 2.0  # after which a waiter asks anew, and sees whether it was closed


class ZmqKey(NamedTuple):
    """An object in the memory of a node's server."""

    address: str
    port: int
    server: str
    """``node-key-random``, in hex: the node, the secret key that it wants, which start of the server."""
    name: str
    """``host-pid-random``, in hex."""


class ZmqConnector(ConnectorHandle[ZmqKey]):
    """Objects in the memory of the node that made them, in a server that the node's processes share.

    The server is a process of its own, started by the first `put` or `reserve` on a node. It leaves, and
    its objects go with it, when no process of the node has a connector of its `name` open any more
    (however that process ended), and `linger` seconds have passed. Processes of the node reach it
    through a unix socket that only this user can open; those of other nodes straight over TCP,
    encrypted and with both sides authenticated (CURVE). All of them need the same secret key.

    Args:
        name: processes of one user and one node that use the same name share a server.
        address: where the server listens, of each node that runs one: an interface (``ib0``), a network
            that the node has an address in (``10.1.0.0/16``), a host name or an IP address; without it,
            the address that packets leave from by default.
        port: 0 for any that is free.
        key: where the secret key is, 64 hex digits: ``env:NAME`` or ``file:PATH``. Without it, a file of
            the user's own, ``~/.config/isthmus/zmq.key``, which the first server makes; nodes with a
            common home have it in common.
        linger: seconds that the server outlives its last user, or that one's last request.
        max_bytes: of all objects of a node together; without it, half of the memory that is free when
            the server starts. The first user's counts.
        chunk_bytes: bytes of an object that are sent at a time, at most 16 MiB.
        timeout: seconds that a server may keep silent.

    Raises:
        MissingExtraError: pyzmq is not installed.
        SpecError: arguments that do not go together.
        BrokenError: there is no place for the server's socket.
    """

    kind = "zmq"
    spec_type = ZmqSpec
    key_type = ZmqKey

    def __init__(
        self,
        name: str = "default",
        address: str = "",
        port: int = 0,
        key: str = "",
        linger: float = 0.0,
        *,
        max_bytes: int | None = None,
        chunk_bytes: int = 1 << 22,
        timeout: float = 30.0,
    ) -> None:
        spec = ZmqSpec(name, address, port, key, linger, max_bytes, chunk_bytes, timeout)
        self._channel = Channel(spec)
        super().__init__(spec)
        self._chunk = chunk_bytes

    def put(self, obj: Payload, *, lease: float | None = None, held: bool = False) -> ZmqKey:
        """Store an object on this node.

        Args:
            obj: the object's bytes; sent from where they lie.
            lease: seconds until it may go, on the server's clock.
            held: of no effect here: the deadline always counts.
        """
        self._check()
        seconds, flat = _seconds(lease, held), pieces(obj)
        with self._channel.home_link() as (place, link):
            key = self._fresh(place)
            self._send(link, key, flat, absent=False, lease=seconds)
        return key

    def put_batch(
        self, objs: Sequence[Payload], *, lease: float | None = None, held: bool = False
    ) -> _Keys:
        """Store several objects on this node, the small ones in few round trips."""
        self._check()
        seconds = _seconds(lease, held)
        if not objs:
            return []
        flats = [pieces(obj) for obj in objs]
        few = [n for n, flat in enumerate(flats) if total(flat) <= self._chunk]
        with self._channel.home_link() as (place, link):
            keys = [self._fresh(place) for _ in objs]
            requests = (small(keys[n].name, flats[n], self._chunk, lease=seconds) for n in few)
            replies = [*link.run(requests, SMALL_AHEAD)]
            for n, received in zip(few, replies, strict=True):
                expect(received, str(place), total(flats[n]))
            for n in sorted(set(range(len(keys))).difference(few)):
                self._send(link, keys[n], flats[n], absent=False, lease=seconds)
        return keys

    def get(self, key: ZmqKey) -> Buffer | None:
        """Return the object, in memory of its own; None too if its server has left."""
        place = self._find(key)
        return self._channel.ask(
            place, lambda link: None if link is None else fetch(link, str(place), key.name)
        )

    def get_batch(self, keys: Sequence[ZmqKey]) -> _Buffers:
        """Return the objects under several keys, in few round trips to each server."""
        self._check()
        found: _Buffers = [None] * len(keys)
        for place, group in self._by_server(keys):
            names = [keys[n].name for n in group]

            def ask(link: Link | None, place: Place = place, names: _Names = names) -> _Buffers:
                return [] if link is None else [*fetch_all(link, str(place), names)]

            for n, data in zip(group, self._channel.ask(place, ask), strict=False):
                found[n] = data
        return found

    def get_range(self, key: ZmqKey, offset: int, size: int) -> Buffer | None:
        """Return a part of the object; only that part is sent."""
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        place = self._find(key)
        return self._channel.ask(
            place,
            lambda link: (
                None
                if link is None
                else fetch_range(link, str(place), key.name, offset, size, self._chunk)
            ),
        )

    def exists(self, key: ZmqKey) -> bool:
        """Return whether a complete object lies under `key`."""
        return bool(self._ask(key, Exists))

    def evict(self, key: ZmqKey) -> None:
        """Delete an object; no error if there is none."""
        self._ask(key, Evict)

    def reserve(self) -> ZmqKey:
        """Return a fresh key of this node's server, under which nothing lies yet."""
        self._check()
        with self._channel.home_link() as (place, _):
            return self._fresh(place)

    def put_at(
        self, key: ZmqKey, obj: Payload, *, lease: float | None = None, held: bool = False
    ) -> bool:
        """Store an object under a reserved key, on the node that reserved it, if none lies there.

        Raises:
            BrokenError: that node's server has left.
        """
        seconds, place, flat = _seconds(lease, held), self._find(key), pieces(obj)
        with self._channel.link(place) as link:
            if link is None:
                raise _gone(place)
            return self._send(link, key, flat, absent=True, lease=seconds)

    def wait(self, key: ZmqKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`: its server says so when it comes.

        Raises:
            BrokenError: the server of the key has left, so that none will come.
        """
        place = self._find(key)
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            seconds = min(_WAIT_SECONDS, max(0.0, deadline - time.monotonic()))
            with self._channel.link(place) as link:
                if link is None:
                    raise _gone(place)
                waiting = link.run([(Wait(key.name, seconds), ())], 1, patience=seconds)
                if expect(next(waiting), str(place)).value:
                    return True
            self._check()
            if time.monotonic() >= deadline:
                return False

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object of this node's server; those of other nodes only they can list."""
        self._check()
        place = self._channel.home(start=False)
        after, more = 0, place is not None
        while more and place is not None:
            with self._channel.link(place) as link:
                if link is None:
                    return
                page = expect(link.ask(ListEntries(after)), str(place))
            for info in page.found:
                yield _info(place, info)
                after = info.serial
            more = page.more

    def stat(self, key: ZmqKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        place = self._find(key)

        def ask(link: Link | None) -> Sequence[EntryInfo]:
            return () if link is None else expect(link.ask(Stat(key.name)), str(place)).found

        found = self._channel.ask(place, ask)
        return _info(place, found[0]) if found else None

    def clear(self) -> int:
        """Delete every object of this node's server; return how many."""
        return self._ask_home(Clear())

    def sweep(self) -> int:
        """Delete what killed processes left unfinished on this node, and what is overdue.

        The server does it by itself too: what is overdue at once, the rest when it needs the room.
        """
        return self._ask_home(Sweep())

    def lease(self, key: ZmqKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now, on its server's clock, unless the lease is renewed."""
        return bool(self._ask(key, partial(Lease, seconds=_seconds(seconds, held))))

    def renew(self, keys: Sequence[ZmqKey]) -> _Flags:
        """Begin the period of each object's lease anew: few requests to each server."""
        self._check()
        done = [False] * len(keys)
        for place, group in self._by_server(keys):
            for start in range(0, len(group), _RENEWED_AT_ONCE):
                some = group[start : start + _RENEWED_AT_ONCE]
                names = [keys[n].name for n in some]

                def ask(link: Link | None, place: Place = place, names: _Names = names) -> _Flags:
                    if link is None:
                        return []
                    flags: _Flags = expect(link.ask(Renew(names)), str(place)).done
                    return flags

                for n, renewed in zip(some, self._channel.ask(place, ask), strict=False):
                    done[n] = renewed
        return done

    def _fresh(self, place: Place) -> ZmqKey:
        return ZmqKey(*place, fresh_name(self._channel.node))

    def _send(
        self,
        link: Link,
        key: ZmqKey,
        flat: Sequence[bytes | memoryview],
        *,
        absent: bool,
        lease: float | None,
    ) -> bool:
        place = _place(key)
        return store(
            link,
            str(place),
            key.name,
            flat,
            chunk=self._chunk,
            writer=lambda: self._channel.writer() if self._channel.is_home(place) else "",
            absent=absent,
            lease=lease,
        )

    def _ask(self, key: ZmqKey, request: Callable[[str], Request]) -> int:
        """Return the number that a key's server answers about its object, 0 if it has left."""
        return self._ask_at(self._find(key), request(key.name))

    def _ask_home(self, request: Request) -> int:
        self._check()
        place = self._channel.home(start=False)
        return 0 if place is None else self._ask_at(place, request)

    def _ask_at(self, place: Place, request: Request) -> int:
        def ask(link: Link | None) -> int:
            return 0 if link is None else int(expect(link.ask(request), str(place)).value)

        return self._channel.ask(place, ask)

    def _by_server(self, keys: Sequence[ZmqKey]) -> _Groups:
        """Return servers, each with the numbers of the keys that it has."""
        groups: dict[Place, list[int]] = {}
        for n, key in enumerate(keys):
            groups.setdefault(self._find(key), []).append(n)
        return [*groups.items()]

    def _find(self, key: ZmqKey) -> Place:
        self._check(key)
        server: object = key.server  # keys come from outside
        well_formed = isinstance(server, str) and _SERVER.fullmatch(server)
        if not (well_formed and is_name(key.name)):
            raise KeyTypeError(type(self).__name__, "ZmqKey from put() or reserve()", key)
        return _place(key)

    def _release(self) -> None:
        self._channel.close()


# Named out here: inside the class, `list` is its method.
_Keys: TypeAlias = "list[ZmqKey]"
_Buffers: TypeAlias = "list[Buffer | None]"
_Groups: TypeAlias = "list[tuple[Place, list[int]]]"
_Flags: TypeAlias = "list[bool]"
_Names: TypeAlias = "list[str]"


def _place(key: ZmqKey) -> Place:
    return Place(key.address, key.port, key.server)


def _info(place: Place, info: EntryInfo) -> ObjectInfo:
    until = None if info.left is None else time.time() + info.left
    key = ZmqKey(*place, info.name)
    return ObjectInfo(key, info.size, info.created, owner(info.name, place.server[:8]), until)


def _gone(place: Place) -> BrokenError:
    return BrokenError(place, "it has left; reserve or put anew, which starts another")


def _seconds(lease: float | None, held: bool) -> float | None:
    given = terms(lease, held)
    return None if given is None else given.seconds
