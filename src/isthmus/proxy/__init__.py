"""Lazy, transparent object proxies.

``Proxy(factory)`` stands for the object that ``factory()`` returns. The factory is called at the first
use; from then on the proxy does what the object does. A proxy pickles as its factory, so it is small
and travels where the object need not.

    p = Proxy(lambda: [1, 2, 3])
    assert p == [1, 2, 3]

Two implementations, one in C and a twin in Python, behave alike; ``implementation`` says which one runs
(``"c"`` or ``"python"``), and ``ISTHMUS_PURE_PROXY=1`` in the environment forces the twin.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from isthmus.proxy._about import TargetClass, load_class

if TYPE_CHECKING:
    from isthmus.proxy._future import ResolveFuture
    from isthmus.proxy._pure import (
        Proxy,
        extract,
        get_factory,
        is_proxy,
        is_resolved,
        resolve,
        target_class,
    )

    implementation: str
else:
    _ABI = 2  # of _proxy.c

    def _compiled() -> Any:
        """Return the C implementation; None if it was not asked for, not built, or is out of date."""
        if os.environ.get("ISTHMUS_PURE_PROXY", "") not in ("", "0"):
            return None
        try:
            from isthmus.proxy import _proxy
        except ImportError:  # not built, or this is a subinterpreter
            return None
        except AttributeError:  # built when the modules beside it had other names
            found = None
        else:
            found = getattr(_proxy, "ABI", None)
            if found == _ABI:
                return _proxy
        import warnings

        warnings.warn(
            f"the compiled isthmus.proxy._proxy is of ABI {found}, the modules beside it need {_ABI}: it "
            "was built from other sources. The slower Python twin takes its place until you rebuild it: "
            "pip install --force-reinstall --no-deps isthmus, or in a source tree pip install -e .",
            RuntimeWarning,
            stacklevel=2,
        )
        return None

    _chosen = _compiled()
    implementation = "c" if _chosen is not None else "python"
    if _chosen is None:
        from isthmus.proxy import _pure as _chosen
    Proxy = _chosen.Proxy
    extract = _chosen.extract
    get_factory = _chosen.get_factory
    is_proxy = _chosen.is_proxy
    is_resolved = _chosen.is_resolved
    resolve = _chosen.resolve
    target_class = _chosen.target_class

__all__ = [
    "Proxy",
    "ResolveFuture",
    "TargetClass",
    "extract",
    "get_factory",
    "implementation",
    "is_proxy",
    "is_resolved",
    "load_class",
    "resolve",
    "resolve_async",
    "target_class",
]


def resolve_async(proxy_or_factory: Any) -> ResolveFuture[Any]:
    """Start fetching in the background, at once, and return a future for the target.

    The proxy has its target when the future is done; who uses it earlier waits for the same fetch. A
    factory whose type offers ``resolve_async()`` fetches its own way (a store's bounded pool), any other
    is called by a daemon thread.

    Args:
        proxy_or_factory: a proxy, or a factory that has no proxy.

    Returns:
        A ``concurrent.futures.Future`` that can also be awaited from asyncio.

    Raises:
        TypeError: it is neither a proxy nor callable.
    """
    from isthmus.proxy._future import start  # it needs concurrent.futures, most users do not

    return start(proxy_or_factory)


def __getattr__(name: str) -> Any:
    if name == "ResolveFuture":
        from isthmus.proxy._future import ResolveFuture

        return ResolveFuture
    raise AttributeError(f"module 'isthmus.proxy' has no attribute {name!r}")
