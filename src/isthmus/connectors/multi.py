"""Several connectors behind one: each object goes where its policies say (dissertation, 3.3.3)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from isthmus.connectors import (
    LeasingConnector,
    ListableConnector,
    ObjectInfo,
    RangeConnector,
    ReservingConnector,
    WaitingConnector,
)
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.leases import terms
from isthmus.connectors.nested import Nested, NestedSpec
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.policy import Policy, Request, class_names, names
from isthmus.errors import BrokenError, FullError, KeyTypeError, NoRouteError, SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from isthmus.connectors import Buffer, Connector, Payload

__all__ = ["Member", "MultiConnector", "MultiKey", "MultiSpec", "Policy", "Request"]

T = TypeVar("T")

_CAN: dict[type[Any], str] = {ReservingConnector: "reserve", LeasingConnector: "give leases"}


class Member(NestedSpec):
    """One of a `MultiConnector`'s connectors."""

    policy: Policy = Policy()
    """Which objects it takes."""


class MultiSpec(Spec):
    """Which connectors a `MultiConnector` chooses from."""

    connectors: dict[str, Member]
    """By names of your choice, which become part of keys."""
    fallback: str | None = None
    """Name of the one that is tried last."""


class MultiKey(NamedTuple):
    """An object in one of several connectors."""

    connector: str
    """The name of that connector."""
    key: str
    """The object's key there, as a JSON array."""


class MultiConnector(ConnectorHandle[MultiKey]):
    """Puts each object where it fits, and finds it again by its key.

    An object goes to the connector of the highest priority whose policy takes it. A key names its
    connector, so a consumer opens only the ones that it reads from. Reserving, waiting, leases, ranges and
    listing work where the connectors that they concern can do them; else they raise
    ``CapabilityError``. Closing it closes them.

    Args:
        connectors: by name, an open connector and its `Policy`, or both as a `Member`. The order
            decides between equal priorities.
        fallback: the name of one that is tried last, whatever its priority: when no other takes an
            object, and when the chosen one is full or does not answer. Its policy holds even then, so
            that no object ends up where it must not.

    Raises:
        SpecError: there is no connector, or none that is called `fallback`.
    """

    kind = "multi"
    spec_type = MultiSpec
    key_type = MultiKey
    takes_type = True

    def __init__(
        self,
        connectors: Mapping[str, Member | tuple[Connector[Any], Policy]],
        fallback: str | None = None,
    ) -> None:
        members: dict[str, Member] = {}
        self._nested: dict[str, Nested] = {}
        for name, given in connectors.items():
            inner, policy = (given, given.policy) if isinstance(given, Member) else given
            nested = self._nested[name] = Nested(inner)
            members[name] = Member(nested.spec.kind, nested.spec.options, policy)
        if not members or (fallback is not None and fallback not in members):
            known = ", ".join(members) or "no connectors"
            raise SpecError("MultiConnector", f"fallback is {fallback!r}, among {known}")
        self._members = members
        self._fallback = fallback
        self._host = socket.gethostname()
        super().__init__(MultiSpec(members, fallback))

    def put(
        self,
        obj: Payload,
        *,
        of: type[Any] | str | None = None,
        tags: str | Iterable[str] = (),
        consumer: str | Iterable[str] = (),
        lease: float | None = None,
        held: bool = False,
        **options: Any,
    ) -> MultiKey:
        """Store an object where it fits.

        Args:
            obj: the object's bytes.
            of: its class, or the name of one; a store says it by itself.
            tags: what its place must have.
            consumer: host, or hosts, where it will be used.
            lease: see `lease`; a connector that gives none is not chosen.
            held: see `lease`.
            **options: handed to the chosen connector's ``put``.

        Raises:
            NoRouteError: no connector takes it; the message says why, for each.
        """
        self._check()
        flat = pieces(obj)
        return self._place(
            self._request(total(flat), of, tags, consumer),
            lambda nested: nested.open().put(flat, **options, **nested.lease(lease, held)),
            None if terms(lease, held) is None else LeasingConnector,
        )

    def put_batch(
        self,
        objs: Sequence[Payload],
        *,
        of: Sequence[type[Any] | str] | None = None,
        tags: str | Iterable[str] = (),
        consumer: str | Iterable[str] = (),
        lease: float | None = None,
        held: bool = False,
        **options: Any,
    ) -> list[MultiKey]:
        """Store several objects, each where it fits; those of one connector in one operation of it.

        Args:
            objs: their bytes.
            of: the class of each.
            tags: see `put`, for all of them.
            consumer: see `put`, for all of them.
            lease: see `put`, for all of them.
            held: see `lease`.
            **options: handed to each chosen connector's ``put_batch``.

        Raises:
            NoRouteError: no connector takes one of them; nothing was stored.
        """
        self._check()
        tags, consumer = names(tags), names(consumer)
        needs = None if terms(lease, held) is None else LeasingConnector
        flats = [pieces(obj) for obj in objs]
        classes: Sequence[type[Any] | str | None] = [None] * len(flats) if of is None else of
        groups: dict[tuple[str, ...], list[tuple[int, Request]]] = {}
        for at, (flat, cls) in enumerate(zip(flats, classes, strict=True)):
            request = self._request(total(flat), cls, tags, consumer)
            groups.setdefault(tuple(self._route(request, needs)), []).append((at, request))
        keys: dict[int, MultiKey] = {}
        for route, group in groups.items():

            def store(nested: Nested, group: list[tuple[int, Request]] = group) -> list[Any]:
                options_there = {**options, **nested.lease(lease, held)}
                return nested.open().put_batch([flats[at] for at, _ in group], **options_there)

            name, made = self._first(route, store)
            for (at, _), key in zip(group, made, strict=True):
                keys[at] = MultiKey(name, Nested.pack_key(key))
        return [keys[at] for at in range(len(flats))]

    def get(self, key: MultiKey) -> Buffer | None:
        """Return the object's bytes as the connector that has it returns them."""
        nested, own = self._find(key)
        return nested.open().get(own)

    def get_batch(self, keys: Sequence[MultiKey]) -> list[Buffer | None]:
        """Return the objects under several keys, with one operation for each connector concerned."""
        found: list[Buffer | None] = [None] * len(keys)
        for nested, group in self._grouped(keys):
            datas = nested.open().get_batch([own for _, own in group])
            for (at, _), data in zip(group, datas, strict=True):
                found[at] = data
        return found

    def exists(self, key: MultiKey) -> bool:
        """Return whether an object lies under `key`."""
        nested, own = self._find(key)
        return nested.open().exists(own)

    def evict(self, key: MultiKey) -> None:
        """Delete an object; no error if there is none."""
        nested, own = self._find(key)
        nested.open().evict(own)

    def reserve(
        self,
        *,
        size: int | None = None,
        of: type[Any] | str | None = None,
        tags: str | Iterable[str] = (),
        consumer: str | Iterable[str] = (),
    ) -> MultiKey:
        """Return a fresh key where an object will fit.

        Args:
            size: bytes that it will have, about; without it no connector is refused for its limits.
            of: see `put`.
            tags: see `put`.
            consumer: see `put`.

        Raises:
            NoRouteError: no connector takes it and can reserve.
        """
        self._check()
        request = self._request(size, of, tags, consumer)
        return self._place(
            request, lambda nested: nested.able(ReservingConnector).reserve(), ReservingConnector
        )

    def put_at(
        self, key: MultiKey, obj: Payload, *, lease: float | None = None, held: bool = False
    ) -> bool:
        """Store an object under a reserved key, in the connector that the key names."""
        nested, own = self._find(key)
        options = nested.lease(lease, held)
        inner: Any = nested.able(ReservingConnector)
        return bool(inner.put_at(own, obj, **options))

    def lease(self, key: MultiKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now unless its lease is renewed by then."""
        nested, own = self._find(key)
        return nested.able(LeasingConnector).lease(own, seconds, held=held)

    def renew(self, keys: Sequence[MultiKey]) -> _Answers:
        """Begin the period of each object's lease anew, with one operation for each connector concerned."""
        renewed = [False] * len(keys)
        for nested, group in self._grouped(keys):
            own = [own for _, own in group]
            for (at, _), done in zip(group, nested.able(LeasingConnector).renew(own), strict=True):
                renewed[at] = done
        return renewed

    def wait(self, key: MultiKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`, as its connector does."""
        nested, own = self._find(key)
        return nested.able(WaitingConnector).wait(own, timeout)

    def get_range(self, key: MultiKey, offset: int, size: int) -> Buffer | None:
        """Return a part of the object."""
        nested, own = self._find(key)
        return nested.able(RangeConnector).get_range(own, offset, size)

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object of every connector."""
        for name, connector in self._listable().items():
            for info in connector.list():
                yield info._replace(key=MultiKey(name, Nested.pack_key(info.key)))

    def stat(self, key: MultiKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        nested, own = self._find(key)
        info = nested.able(ListableConnector).stat(own)
        return None if info is None else info._replace(key=key)

    def clear(self) -> int:
        """Delete every object of every connector; nothing if one of them cannot list."""
        return sum(connector.clear() for connector in self._listable().values())

    def sweep(self) -> int:
        """Delete what is overdue and what killed processes left unfinished in any of the connectors."""
        return sum(connector.sweep() for connector in self._listable().values())

    def _request(
        self,
        size: int | None,
        of: type[Any] | str | None,
        tags: str | Iterable[str],
        consumer: str | Iterable[str],
    ) -> Request:
        types = () if of is None else class_names(of)
        return Request(size, types, self._host, names(consumer), frozenset(names(tags)))

    def _place(
        self, request: Request, put: Callable[[Nested], Any], needs: type[Any] | None = None
    ) -> MultiKey:
        name, key = self._first(self._route(request, needs), put)
        return MultiKey(name, Nested.pack_key(key))

    def _route(self, request: Request, needs: type[Any] | None = None) -> Sequence[str]:
        """Return the name of the best connector, then the fallback's if that takes the object too.

        Args:
            request: the object.
            needs: what the connector has to be able to do.
        """
        refusals: dict[str, str] = {}
        best: tuple[float, str] | None = None
        for name, member in self._members.items():
            reason = member.policy.refuses(request)
            if (
                not reason
                and needs is not None
                and not issubclass(self._nested[name].connector_type, needs)
            ):
                reason = f"a {member.kind} connector cannot {_CAN[needs]}"
            if reason:
                refusals[name] = reason
            elif name != self._fallback:
                rank = member.policy.rank(request)
                if best is None or rank > best[0]:
                    best = rank, name
        route = [] if best is None else [best[1]]
        if self._fallback is not None and self._fallback not in refusals:
            route.append(self._fallback)
        if not route:
            raise NoRouteError(str(request), refusals)
        return route

    def _first(self, route: Sequence[str], put: Callable[[Nested], T]) -> tuple[str, T]:
        """Return who did it, and the result: the second is tried where the first is full or broken."""
        name, *rest = route
        try:
            return name, put(self._nested[name])
        except (FullError, BrokenError):
            if not rest:
                raise
            return rest[0], put(self._nested[rest[0]])

    def _find(self, key: MultiKey) -> tuple[Nested, Any]:
        self._check(key)
        nested = self._nested.get(key.connector)
        if nested is None:
            wanted = f"MultiKey of one of {', '.join(self._nested)}"
            raise KeyTypeError(type(self).__name__, wanted, key)
        return nested, nested.unpack_key(key.key, key)

    def _grouped(self, keys: Sequence[MultiKey]) -> Iterable[tuple[Nested, _Places]]:
        """Return places and own keys by the connector that has them."""
        self._check()
        groups: dict[str, tuple[Nested, _Places]] = {}
        for at, key in enumerate(keys):
            nested, own = self._find(key)
            groups.setdefault(key.connector, (nested, []))[1].append((at, own))
        return groups.values()

    def _listable(self) -> dict[str, ListableConnector[Any]]:
        self._check()
        return {name: nested.able(ListableConnector) for name, nested in self._nested.items()}

    def _release(self) -> None:
        for nested in self._nested.values():
            nested.close()


# Named out here: inside the class, `list` is its method.
_Answers: TypeAlias = "list[bool]"
_Places: TypeAlias = "list[tuple[int, Any]]"
