"""isthmus: move data straight from where it is made to where it is used.

Importing this package costs next to nothing; each system is imported by its own name
(``isthmus.proxy``, ``isthmus.store``, ...) or on first use of the two names below.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # type checkers take it for typing's, whose import would double the cost of this one
)
if TYPE_CHECKING:
    from isthmus.proxy import Proxy as Proxy
    from isthmus.store import Store as Store

__version__ = "0.1.0"
__all__ = ["Proxy", "Store", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Proxy":
        from isthmus.proxy import Proxy

        return Proxy
    if name == "Store":
        from isthmus.store import Store

        return Store
    raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
