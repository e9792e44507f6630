"""The servers that a connector talks to: this node's, started when needed, and those that keys name."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from isthmus.connectors.zmq.access import check, is_loopback, tcp, zmq
from isthmus.connectors.zmq.credentials import Credentials
from isthmus.connectors.zmq.link import GoneError, Link
from isthmus.connectors.zmq.node import Card, Node, node_id
from isthmus.errors import BrokenError, ClosedError, ElsewhereError, FullError
from isthmus.forking import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isthmus.connectors.zmq.access import ZmqSpec

__all__ = ["Channel", "Place"]

T = TypeVar("T")

_INHERITED: list[
    Any
] = []  # a parent's sockets, never to be touched: closing them could wait for ever
_MOST_IDLE = 8  # connections to one server that are kept for the next call


class Place(NamedTuple):
    """A server, as a key names it."""

    address: str
    port: int
    server: str

    def __str__(self) -> str:
        return f"ZeroMQ server {self.server} at {tcp(self.address, self.port)}"


class Channel:
    """Connections to servers, each used by one call at a time and kept for the next.

    Raises:
        SpecError: fields that do not go together.
        MissingExtraError: pyzmq is not installed.
    """

    def __init__(self, spec: ZmqSpec) -> None:
        check(spec)
        zmq()
        self._spec = spec
        self._credentials = Credentials(spec.key)
        self._closed = self._ended = False
        self._node = Node(spec, self._credentials)
        self._fresh()
        renew_after_fork(self)

    def _fresh(self) -> None:
        self.node = node_id()
        self._guard = threading.Lock()
        self._starting = threading.Lock()
        self._card: Card | None = None
        self._context: Any = None
        self._idle: dict[str, list[Link]] = {}
        self._open = 0

    def home(self, *, start: bool) -> Place | None:
        """Return this node's server; None if there is none and none is to be started."""
        card = self._known()
        if card is None and start:
            with self._starting:
                card = self._known() or self._node.start()
                self._card = card
        return None if card is None else Place(card.address, card.port, card.identity)

    def writer(self) -> str:
        """Return what this node's server is to look at to see whether this process lives."""
        with self._guard:
            return self._node.writer()

    def is_home(self, place: Place) -> bool:
        """Return whether it is this node's server."""
        card = self._known(place.server)
        return card is not None and card.identity == place.server

    @contextlib.contextmanager
    def home_link(self) -> Iterator[tuple[Place, Link]]:
        """Lend a connection to this node's server, which is started if there is none."""
        for _ in range(3):
            place = self.home(start=True)
            assert place is not None
            link = self._take(place) or self._connect(place)
            if link is not None:
                break
            self._card = None
        else:
            raise BrokenError(place, "it leaves, or dies, whenever it is started")
        with self._lend(place, link):
            yield place, link

    @contextlib.contextmanager
    def link(self, place: Place) -> Iterator[Link | None]:
        """Lend a connection to a server; None if it is certain that it is gone, and its objects too.

        Raises:
            BrokenError: it does not answer.
            ElsewhereError: it cannot be reached from here, or another node is where it was.
            MissingSecretError: its key is not here.
        """
        link = self._take(place) or self._connect(place)
        if link is None:
            yield None
            return
        with self._lend(place, link):
            yield link

    def ask(self, place: Place, work: Callable[[Link | None], T]) -> T:
        """Have a server asked what may be asked twice, over a connection as `link` lends it.

        One that was idle may have broken without our knowing yet; then another one tells how things are.
        """
        reused = False
        try:
            with self.link(place) as link:
                reused = link is not None and not link.fresh
                return work(link)
        except GoneError:
            if not reused:
                raise
        with self._guard:
            stale = self._idle.pop(place.server, [])
        for link in stale:
            self._discard(link)
        self._card = None
        with self.link(place) as link:
            return work(link)

    @contextlib.contextmanager
    def _lend(self, place: Place, link: Link) -> Iterator[None]:
        try:
            yield
        except (FullError, GeneratorExit):
            self._give(place, link)
            raise
        except BaseException:
            self._discard(link)  # a reply to it may still come
            raise
        self._give(place, link)

    def close(self) -> None:
        """Close every connection; those in use when their calls are done."""
        with self._guard:
            self._closed = True
            idle = [link for links in self._idle.values() for link in links]
            self._idle = {}
        for link in idle:
            self._discard(link)
        self._end_if_unused()

    def _known(self, identity: str = "") -> Card | None:
        """Return the running server's card, from memory if it may be."""
        card = self._card
        if card is None or (identity and card.identity != identity and identity[:8] == self.node):
            card = self._card = self._node.card()
        return card

    def _connect(self, place: Place) -> Link | None:
        card = self._known(place.server)
        curve = None
        if card is not None and card.identity == place.server:
            endpoint = f"ipc://{card.socket}"
        else:
            if not self._reachable(place):
                return None
            endpoint = tcp(place.address, place.port)
            key_id = place.server.split("-")[1]
            curve = self._credentials.find(key_id, lambda: f"an object in the {place}")
        with self._guard:
            if self._closed:
                raise ClosedError(str(place))
            if self._context is None:
                self._context = zmq().Context()
            self._open += 1
        try:
            link = Link(
                self._context, endpoint, curve, str(place), self._spec.timeout, self._spec.linger
            )
        except BaseException as error:
            with self._guard:
                self._open -= 1
            self._end_if_unused()
            if curve is None and isinstance(error, BrokenError):
                self._card = self._node.card()
                if self._card != card:
                    return None
            raise
        if link.identity == place.server:
            return link
        self._discard(link)
        if link.identity[:8] == place.server[:8]:
            return None  # it is the same node, where another server has the port by now
        raise ElsewhereError(
            "a ZmqConnector", place, socket.gethostname(), "another node has this address by now"
        )

    def _reachable(self, place: Place) -> bool:
        """Return whether something listens there; False if the server is certainly gone."""
        here = place.server[:8] == self.node
        if is_loopback(place.address) and not here:
            raise ElsewhereError(
                "a ZmqConnector",
                place,
                socket.gethostname(),
                "that is a loopback address; give the connector an address that other nodes reach: an "
                "interface, or a network such as 10.1.0.0/16",
            )
        try:
            # ZeroMQ itself says nothing about why there is no connection.
            socket.create_connection((place.address, place.port), self._spec.timeout).close()
        except ConnectionRefusedError:
            if here:
                return False
            raise BrokenError(
                place, "nothing listens there; it has left, and its objects with it (see linger)"
            ) from None
        except OSError as error:
            raise BrokenError(
                place, f"{error.strerror or error}; see that this address can be reached from here"
            ) from error
        return True

    def _take(self, place: Place) -> Link | None:
        while True:
            with self._guard:
                if self._closed:
                    raise ClosedError(str(place))
                links = self._idle.get(place.server)
                if not links:
                    return None
                link = links.pop()
            if link.usable() and not self._is_gone(place):
                return link
            self._discard(link)
            self._card = None

    def _is_gone(self, place: Place) -> bool:
        """Ask the kernel: ZeroMQ itself hears of this node's server's end somewhat later."""
        card = self._card
        return card is not None and card.identity == place.server and not self._node.is_served()

    def _give(self, place: Place, link: Link) -> None:
        link.fresh = False
        with self._guard:
            links = self._idle.setdefault(place.server, [])
            if not self._closed and len(links) < _MOST_IDLE:
                links.append(link)
                return
        self._discard(link)

    def _discard(self, link: Link) -> None:
        link.close()
        with self._guard:
            self._open -= 1
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        """Once closed, let go of everything when the last call is done: till then we are a user."""
        with self._guard:
            if not self._closed or self._open or self._ended:
                return
            self._ended = True
            context, self._context = self._context, None
        if context is not None:
            context.term()
        self._node.close()

    def _forked(self) -> None:
        """Start afresh in a child: sockets of ZeroMQ's are of no use there."""
        _INHERITED.append((self._idle, self._context))
        if not self._ended:
            self._node.forked()
        self._fresh()
