"""Objects through a store: what travels in their place is a proxy of two hundred bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isthmus.connectors import ListableConnector, connectors
from isthmus.proxy import extract
from isthmus.store import Store, get_key, get_or_create_store

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ProxyTransformer"]


class ProxyTransformer:
    """Puts objects into a store and sends proxies of them.

    Tasks get the objects themselves, resolved before the function is called, so that the time of
    moving data is told apart from that of computing.

    Args:
        store: any store. It is closed by `close`; `clear` empties its connector's storage.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def over(
        cls, kind: str, options: Mapping[str, Any], *, name: str, cache_size: int
    ) -> ProxyTransformer:
        """Open a store of its own over a connector by kind and options.

        Raises:
            UnknownKindError: there is no such connector.
            SpecError: its options are wrong.
        """
        connector = connectors.get(kind).from_config(options)
        return cls(Store(name, connector, cache_size=cache_size, register=True))

    def transform(self, obj: Any) -> Any:
        """Store an object and return its proxy."""
        return self.store.proxy(obj)

    def resolve(self, identifier: Any) -> Any:
        """Return the object behind a proxy."""
        return extract(identifier)

    def close(self) -> None:
        """Close the store; objects stay."""
        self.store.close()

    def size(self, identifier: Any) -> int:
        """Return the bytes of a stored object, 0 where the connector cannot tell."""
        connector: Any = self.store.connector
        if not hasattr(connector, "stat"):  # of ListableConnector
            return 0
        found = connector.stat(get_key(identifier))
        return 0 if found is None else found.size

    def clear(self) -> None:
        """Delete every object of the connector's storage, where that is listable; after `close` too."""
        connector: Any = self.store.connector
        fresh = connectors.get(connector.kind).from_config(connector.config())
        try:
            if isinstance(fresh, ListableConnector):
                fresh.clear()
        finally:
            fresh.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_worker, (self.store.config(),)


def _in_worker(config: Any) -> ProxyTransformer:
    """Use the store that this process has under the name, or open it: once, not for every task."""
    return ProxyTransformer(get_or_create_store(config))
