"""Lifetimes: objects are evicted when something has ended (dissertation, 4.3.3 and figure 4.10).

>>> from isthmus.store import Store
>>> from isthmus.store.lifetime import ContextLifetime
>>> with Store() as store:
...     with ContextLifetime() as lifetime:
...         key = store.put("value", lifetime=lifetime)
...     store.exists(key)
False
"""

from isthmus.store.lifetime.collecting import CollectingLifetime
from isthmus.store.lifetime.context import ContextLifetime
from isthmus.store.lifetime.lease import LeaseLifetime
from isthmus.store.lifetime.protocol import LeasingLifetime, Lifetime, Promise
from isthmus.store.lifetime.static import StaticLifetime

__all__ = [
    "CollectingLifetime",
    "ContextLifetime",
    "LeaseLifetime",
    "LeasingLifetime",
    "Lifetime",
    "Promise",
    "StaticLifetime",
]
