"""Nodes, a network that fails, and a clock that never waits: all out of one seed."""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from heapq import heappop, heappush
from random import Random
from typing import TYPE_CHECKING, Any

from isthmus.testing.simulator.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATHS", "Node", "Violation", "World"]

PATHS = ("direct", "broker")
"""A direct path loses what is on it when it breaks; a broker delivers late what it has taken."""


TIMELY = 0.2
"""The longest delay of a message once faults have ended."""

AT_ONCE = 100_000
"""Events at one moment: a protocol with more goes round in a circle in which no time passes."""


class Violation(AssertionError):  # noqa: N818 - what it is called in this field
    """A promise was broken. ``args``: which, the seed, the last events."""

    def __str__(self) -> str:
        what, seed, events = self.args
        return f"{what}\n{_story(seed, events)}"


class Node:
    """A participant: a pure object, whose methods the world calls, one at a time.

    What a crash destroys, `crash` must destroy; what is on a disk stays. Everything that a node does, it
    does through `send`, `timer`, and by its own fields; chance comes from ``world.random`` alone.

    Args:
        name: unique in its world.
    """

    world: World
    #: Whether faults may crash it.
    mortal = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.up = False
        #: Counts restarts: timers set and messages sent to an earlier life do not arrive in a later one.
        self.life = 0
        self.clock = (0.0, 1.0)  # what it showed at the beginning, its rate

    def on_start(self) -> None:
        """Begin, at first and after every restart: open the disk, set timers."""

    def on_message(self, source: str, data: Any, path: str) -> None:
        """Take a message."""

    def on_timer(self, name: str) -> None:
        """Do what a timer was set for."""

    def on_path(self, peer: str) -> None:
        """Note that the path to a peer is another one now, or the same one anew."""

    def crash(self) -> None:
        """Lose what is not on disk."""

    def now(self) -> float:
        """Return what this node's own clock shows."""
        start, rate = self.clock
        return start + self.world.now * rate

    def timer(self, seconds: float, name: str) -> None:
        """Have `on_timer` called once, after so many seconds of the own clock."""
        self.world.schedule(seconds / self.clock[1], self.world.fire, self, self.life, name)

    def send(self, to: str, data: Any) -> None:
        """Put a message on the present path to another node; it may get lost."""
        self.world.send(self.name, to, data)

    def note(self, what: str, *details: Any) -> None:
        """Write an event into the history."""
        self.world.note(self.name, what, *details)


class World:
    """One history.

    Args:
        seed: decides everything that happens.
        faults: what goes wrong; None draws it from the seed.
        remember: how many events a `Violation` shows.
    """

    def __init__(self, seed: int, faults: Faults | None = None, *, remember: int = 40) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.faults = faults or Faults.draw(Random(~seed))
        self.now = 0.0
        self.healed = False
        self.events = 0
        self.nodes: dict[str, Node] = {}
        self.recent: deque[tuple[float, str, str, tuple[Any, ...]]] = deque(maxlen=remember)
        self._hash = blake2b(digest_size=16)
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = 0
        self._paths: dict[tuple[str, str], int] = {}
        self._cut: dict[tuple[str, str], float] = {}
        self._last: dict[tuple[str, str, int], float] = {}

    def add(self, node: Node) -> None:
        """Put a node into the world and start it."""
        drift = self.faults.drift
        node.clock = (self.random.uniform(0, 1e6), 1 + self.random.uniform(-drift, drift))
        node.world = self
        self.nodes[node.name] = node
        self._start(node)

    def unleash(self) -> None:
        """Schedule the faults: once all nodes are there."""
        for rate, fault in (
            (self.faults.crashes, self._crash),
            (self.faults.partitions, self._part),
            (self.faults.switches, self._switch),
        ):
            at = 0.0
            while rate and (at := at + self.random.expovariate(rate)) < self.faults.heal:
                self.schedule(at, fault)
        self.schedule(self.faults.heal, self._heal)

    def schedule(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        """Have something called after so many seconds of true time."""
        self._order += 1
        heappush(self._queue, (self.now + seconds, self._order, action, args))

    def run(self, until: float) -> None:
        """Let time pass, to `until` at most."""
        queue = self._queue
        moment, here = -1.0, 0
        while queue and queue[0][0] <= until:
            self.now, _, action, args = heappop(queue)
            self.events += 1
            if self.now > moment:
                moment, here = self.now, 0
            here += 1
            if here > AT_ONCE:
                self.check(False, "time goes on", action.__name__)
            action(*args)
        self.now = until

    def run_until(self, finished: Callable[[], bool], limit: float, *, step: float = 0.25) -> bool:
        """Let time pass until something holds; return False if it does not by `limit`."""
        while not finished():
            if self.now >= limit:
                return False
            self.run(min(limit, self.now + step))
        return True

    def note(self, who: str, what: str, *details: Any) -> None:
        """Write an event into the history, which is what `digest` is of."""
        self.recent.append((self.now, who, what, details))
        self._hash.update(f"{self.now!r} {who} {what} {details!r}\n".encode())

    def digest(self) -> str:
        """Return a hash of every event so far, at its time: equal for two runs that went the same way."""
        return self._hash.hexdigest()

    def check(self, holds: bool, promise: str, *details: Any) -> None:
        """Fail if a promise is broken.

        Raises:
            Violation: it is.
        """
        if not holds:
            self.note("world", "violation", promise, *details)
            raise Violation(" ".join([promise, *map(_brief, details)]), self.seed, self._events())

    def story(self) -> str:
        """Return the seed and the last events, to be read."""
        return _story(self.seed, self._events())

    def _events(self) -> list[str]:
        return [
            f"{at:10.6f} {who:12} {what} {' '.join(map(_brief, more))}".rstrip()
            for at, who, what, more in self.recent
        ]

    def fire(self, node: Node, life: int, name: str) -> None:
        """Let a timer go off, unless its node has crashed since."""
        if node.up and node.life == life:
            node.on_timer(name)

    def send(self, source: str, to: str, data: Any) -> None:
        """Put a message on a path: it is lost, delayed, doubled, as the faults have it."""
        faults, random = self.faults, self.random
        generation = self._paths.get((source, to), 0)
        copies = 1
        if not self.healed:
            if self._cut.get((source, to), 0.0) > self.now or random.random() < faults.loss:
                self.note(source, "lost", to)
                return
            copies += random.random() < faults.duplication
        for _ in range(copies):
            delay = 0.0001 + random.expovariate(1 / faults.delay)
            if self.healed:
                delay = min(delay, TIMELY)
            at = self.now + delay
            if self.healed or not faults.reordering:
                key = (source, to, generation)
                at = self._last[key] = max(at, self._last.get(key, 0.0))
            self.schedule(at - self.now, self._deliver, source, to, data, generation)

    def path(self, one: str, other: str) -> str:
        """Return the name of the present path between two nodes."""
        return PATHS[self._paths.get((one, other), 0) % len(PATHS)]

    def _deliver(self, source: str, to: str, data: Any, generation: int) -> None:
        path = PATHS[generation % len(PATHS)]
        node = self.nodes[to]
        broken = path == "direct" and generation != self._paths.get((source, to), 0)
        if not node.up or broken:
            self.note(to, "missed", source, path)
            return
        node.on_message(source, data, path)

    def _start(self, node: Node) -> None:
        node.up = True
        node.life += 1
        self.note(node.name, "up", node.life)
        node.on_start()

    def crash(self, node: Node, downtime: float) -> None:
        """Kill a node; it restarts after so many seconds."""
        if node.up:
            self.note(node.name, "down")
            node.up = False
            node.crash()
            self.schedule(downtime, self._start, node)

    def _crash(self) -> None:
        mortals = [node for node in self.nodes.values() if node.mortal]
        if mortals:
            node = self.random.choice(mortals)
            self.crash(node, self.random.expovariate(1 / self.faults.downtime))

    def _pair(self) -> tuple[str, str] | None:
        if len(self.nodes) < 2:
            return None
        one, other = self.random.sample(list(self.nodes), 2)
        return one, other

    def _part(self) -> None:
        if pair := self._pair():
            one, other = pair
            end = self.now + self.random.expovariate(1 / self.faults.separation)
            self._cut[one, other] = end
            both = self.random.random() < 0.5
            if both:
                self._cut[other, one] = end
            self.note("world", "partition", one, other, "both ways" if both else "one way")

    def _switch(self) -> None:
        if pair := self._pair():
            one, other = pair
            generation = self._paths.get((one, other), 0) + self.random.choice((1, 2))
            self._paths[one, other] = self._paths[other, one] = generation
            self.note("world", "path", one, other, PATHS[generation % len(PATHS)])
            for name, peer in (pair, (other, one)):
                if self.nodes[name].up:
                    self.nodes[name].on_path(peer)

    def _heal(self) -> None:
        self.healed = True
        self._cut.clear()
        self.note("world", "healed")


def _story(seed: int, events: list[str]) -> str:
    tail = "\n".join(f"  {event}" for event in events)
    return f"seed {seed}; the last events:\n{tail}"


def _brief(detail: Any) -> str:
    text = detail if isinstance(detail, str) else repr(detail)
    return text if len(text) <= 100 else text[:97] + "..."
