"""What survives a crash: a table that changes in transactions, which take time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from isthmus.testing.simulator.world import Node

__all__ = ["Disk"]


class Disk:
    """A node's storage. Only the node that opened it last may write to it.

    Args:
        table: what lies on it at first.
        latency: mean seconds that a transaction takes.
    """

    def __init__(self, table: Mapping[bytes, Any] | None = None, *, latency: float = 0.005) -> None:
        self.table: dict[bytes, Any] = dict(table or {})
        self.latency = latency
        self.epoch = 0

    def open(self) -> int:
        """Return the epoch of whoever opens it now, and refuse all earlier ones'."""
        self.epoch += 1
        return self.epoch

    def commit(
        self,
        node: Node,
        epoch: int,
        puts: Mapping[bytes, Any],
        drops: Sequence[bytes],
        stored: Callable[[], None],
    ) -> None:
        """Store all of it or nothing, after a while, and call `stored` then.

        A node that crashes before it was told may find it stored or not.
        """
        world = node.world
        life = node.life
        seconds = world.random.expovariate(1 / self.latency)
        at = world.random.uniform(0, seconds)
        applied = False

        def apply() -> None:
            nonlocal applied
            if epoch == self.epoch and node.life == life:
                self.table.update(puts)
                for key in drops:
                    self.table.pop(key, None)
                applied = True

        def tell() -> None:
            if applied and node.up and node.life == life:
                stored()

        world.schedule(at, apply)
        world.schedule(seconds, tell)
