"""A connector inside another: its specification, its opening at first use, and its keys as text."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from isthmus.connectors import Connector, LeasingConnector, connectors
from isthmus.connectors.leases import terms
from isthmus.errors import CapabilityError, KeyTypeError
from isthmus.forking import renew_after_fork
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Nested", "NestedSpec"]

P = TypeVar("P")


class NestedSpec(Spec):
    """A connector as plain data."""

    kind: str
    """In the registry of connectors."""
    options: dict[str, Any] = {}  # noqa: RUF012 - msgspec makes each its own
    """Arguments of its constructor."""


class Nested:
    """A connector that another one uses, and closes.

    Given by its specification, it is opened when first needed: a consumer that reads from one of several
    channels need not reach the others.

    Args:
        given: an open connector, or the specification of one.

    Raises:
        SpecError: the specification has a wrong option.
        UnknownKindError: no connector is of its kind.
    """

    def __init__(self, given: Connector[Any] | NestedSpec | Mapping[str, Any]) -> None:
        if isinstance(given, Connector):
            self.spec = NestedSpec(given.kind, given.config())
            self._connector: Connector[Any] | None = given
        else:
            given = given if isinstance(given, NestedSpec) else NestedSpec.from_config(given)
            # Checked, and made what it will be: a relative path must not travel.
            plugin: Any = connectors.get(given.kind)
            self.spec = NestedSpec(given.kind, plugin.spec_type.from_config(given.options).config())
            self._connector = None
        self._opening = threading.Lock()
        renew_after_fork(self)

    @property
    def connector_type(self) -> type[Connector[Any]]:
        """Its class, which says what it can do without being opened."""
        return type(self._connector) if self._connector else connectors.get(self.spec.kind)

    def open(self) -> Connector[Any]:
        """Return the connector."""
        if self._connector is None:
            with self._opening:
                if self._connector is None:
                    self._connector = self.connector_type.from_config(self.spec.options)
        return self._connector

    def able(self, capability: Callable[..., P]) -> P:
        """Return the connector as one that has a capability.

        Raises:
            CapabilityError: it has not.
        """
        # Not type[P], which mypy does not let a protocol be.
        connector, protocol = self.open(), cast("type[Any]", capability)
        if not isinstance(connector, protocol):
            raise CapabilityError(repr(connector), protocol.__name__)
        return cast("P", connector)

    def lease(self, lease: float | None, held: bool) -> dict[str, Any]:
        """Return the keywords of ``put`` that give a lease, none for none.

        Raises:
            CapabilityError: the connector cannot.
            ValueError: the lease is not positive, or there is none to hold.
        """
        if terms(lease, held) is None:
            return {}
        self.able(LeasingConnector)
        return {"lease": lease, "held": held}

    def close(self) -> None:
        """Close the connector, if it was ever opened."""
        if self._connector is not None:
            self._connector.close()

    @staticmethod
    def pack_key(key: tuple[Any, ...]) -> str:
        """Return its key as text, a JSON array.

        Text, because a tuple inside a tuple comes back from JSON or MessagePack as a list, which is
        neither equal nor hashable.
        """
        return msgspec.json.encode(key).decode()

    def unpack_key(self, text: str, whole: object) -> Any:
        """Return the key that `pack_key` packed.

        Raises:
            KeyTypeError: it is none; names `whole`, the key that the text is part of.
        """
        key_type = self.connector_type.key_type
        try:
            return msgspec.json.decode(text, type=key_type)
        except (msgspec.MsgspecError, TypeError):
            wanted = f"{type(whole).__name__} from put() or reserve() with a {self.spec.kind} key"
            raise KeyTypeError(self.connector_type.__name__, wanted, whole) from None

    def _forked(self) -> None:
        self._opening = threading.Lock()
