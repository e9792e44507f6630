"""ProxyStore's names (dissertation, chapters 3 and 4; its published documentation of version 0.8).

Where a name only differs from ours, the table below says which one it is; where its arguments or its
manners differ, an adaptor stands beside this file.
"""

from __future__ import annotations

from isthmus.compat.alias import Alias

__all__ = ["ALIAS"]

_HERE = "isthmus.compat.proxystore"
_STORE = {"Store": f"{_HERE}.store:Store"}
_ERRORS = {
    "StoreError": "isthmus.errors:IsthmusError",
    "StoreExistsError": "isthmus.errors:NameTakenError",
    "NonProxiableTypeError": "isthmus.errors:NotProxiableError",
    "ProxyStoreFactoryError": "isthmus.errors:MissingObjectError",
    "ProxyResolveMissingKeyError": "isthmus.errors:MissingObjectError",
}
_PROTOCOL = {"Connector": "isthmus.connectors:Connector"}
_NEXT = "this version of isthmus has no {} yet"
_AGAIN = _NEXT + "; the file, local, redis and multi connectors are there"

ALIAS = Alias(
    "proxystore",
    "0.8.0",
    {
        "": {},
        "proxy": {
            "Proxy": "isthmus.proxy:Proxy",
            "ProxyLocker": f"{_HERE}.locker:ProxyLocker",
            "ProxyOr": "isthmus.typing:ProxyOr",
            "extract": "isthmus.proxy:extract",
            "get_factory": "isthmus.proxy:get_factory",
            "is_resolved": "isthmus.proxy:is_resolved",
            "resolve": "isthmus.proxy:resolve",
        },
        "factory": {
            "Factory": f"{_HERE}.factories:Factory",
            "LambdaFactory": f"{_HERE}.factories:LambdaFactory",
            "SimpleFactory": f"{_HERE}.factories:SimpleFactory",
        },
        "serialize": {
            "BytesLike": "isthmus.codec:Buffer",
            "SerializationError": "isthmus.errors:CodecError",
            "deserialize": "isthmus.codec:deserialize",
            "serialize": "isthmus.codec:serialize",
        },
        "store": {
            **_STORE,
            "get_or_create_store": f"{_HERE}.registry:get_or_create_store",
            "get_store": f"{_HERE}.registry:get_store",
            "register_store": f"{_HERE}.registry:register_store",
            "store_registration": f"{_HERE}.registry:store_registration",
            "unregister_store": f"{_HERE}.registry:unregister_store",
        },
        "store.base": _STORE,
        "store.config": {
            "ConnectorConfig": f"{_HERE}.config:ConnectorConfig",
            "StoreConfig": f"{_HERE}.config:StoreConfig",
        },
        "store.exceptions": _ERRORS,
        "store.executor": {
            name: f"isthmus.store.executor:{name}"
            for name in ("ProxyAlways", "ProxyNever", "ProxyType", "StoreExecutor")
        },
        "store.factory": {"StoreFactory": "isthmus.store:StoreFactory"},
        "store.lifetimes": {
            "ContextLifetime": "isthmus.store.lifetime:ContextLifetime",
            "LeaseLifetime": "isthmus.store.lifetime:LeaseLifetime",
            "Lifetime": "isthmus.store.lifetime:Lifetime",
            "StaticLifetime": "isthmus.store.lifetime:StaticLifetime",
        },
        "store.metrics": {
            "Metrics": f"{_HERE}.metrics:Metrics",
            "StoreMetrics": f"{_HERE}.metrics:StoreMetrics",
            "TimeStats": f"{_HERE}.metrics:TimeStats",
        },
        "store.ref": {
            name: f"isthmus.store:{name}"
            for name in (
                "OwnedProxy",
                "RefMutProxy",
                "RefProxy",
                "borrow",
                "clone",
                "into_owned",
                "mut_borrow",
                "update",
            )
        },
        "store.scopes": {"submit": "isthmus.store.scopes:submit"},
        "store.utils": {
            "get_key": "isthmus.store:get_key",
            "resolve_async": "isthmus.proxy:resolve_async",
        },
        "connectors": {},
        "connectors.connector": _PROTOCOL,
        "connectors.protocols": _PROTOCOL,
        "connectors.file": {
            "FileConnector": f"{_HERE}.connectors:FileConnector",
            "FileKey": "isthmus.connectors.file:FileKey",
        },
        "connectors.local": {
            "LocalConnector": f"{_HERE}.connectors:LocalConnector",
            "LocalKey": "isthmus.connectors.memory:MemoryKey",
        },
        "connectors.multi": {
            "MultiConnector": f"{_HERE}.routing:MultiConnector",
            "MultiKey": "isthmus.connectors.multi:MultiKey",
            "Policy": f"{_HERE}.routing:Policy",
        },
        "connectors.redis": {
            "RedisConnector": f"{_HERE}.connectors:RedisConnector",
            "RedisKey": "isthmus.connectors.redis:RedisKey",
        },
    },
    {
        "connectors.daos": _AGAIN.format("connector of DAOS"),
        "connectors.dim": _AGAIN.format("connectors of distributed memory (Margo, UCX, ZeroMQ)"),
        "connectors.endpoint": _AGAIN.format("endpoints"),
        "connectors.globus": _AGAIN.format("connector of Globus Transfer"),
        "endpoint": _NEXT.format("endpoints"),
        "ex": _NEXT.format("extensions (proxystore-ex)"),
        "p2p": _NEXT.format("endpoints"),
        "store.future": _NEXT.format("futures of stores"),
        "stream": _NEXT.format("streams"),
    },
)
