"""Adaptors: ProxyStore's arguments and manners over isthmus's own."""

from __future__ import annotations

import pickle
import uuid
from pathlib import Path
from typing import Any

import pytest

from isthmus import store as native
from isthmus.connectors.memory import MemoryConnector
from isthmus.errors import MissingObjectError, NameTakenError, NoRouteError, SpecError

pytest.importorskip("pydantic")
pytestmark = pytest.mark.usefixtures("alias")


def _load(data: Any) -> Any:
    return pickle.loads(bytes.fromhex(bytes(data).decode()))


def open_store(**options: Any) -> Any:
    from proxystore.connectors.local import LocalConnector
    from proxystore.store import Store

    return Store(f"test-{uuid.uuid4().hex[:6]}", LocalConnector(), **options)


# -- stores ------------------------------------------------------------------------------------


def test_objects_and_proxies_by_positional_arguments() -> None:
    from proxystore.proxy import Proxy, is_resolved, resolve
    from proxystore.store.utils import get_key

    with open_store() as store:
        key = store.put([1])
        assert store.get(key) == [1]
        assert store.is_cached(key)
        assert store.exists(key)
        store.evict(key)
        assert store.get(key, default="gone") == "gone"
        proxy = store.proxy([2], True, populate_target=False)
        assert isinstance(proxy, Proxy)
        assert not is_resolved(proxy)
        key = get_key(proxy)
        resolve(proxy)
        assert proxy == [2]
        assert not store.exists(key)
        assert store.proxy_from_key(store.put("x"), True) == "x"


def test_a_proxy_has_its_target_where_it_was_made() -> None:
    from proxystore.proxy import extract, is_resolved
    from proxystore.store.utils import get_key

    target = [1]
    with open_store() as store:
        proxy = store.proxy(target, evict=True)
        assert is_resolved(proxy)
        assert extract(proxy) is target
        assert store.exists(get_key(proxy)), "a look at it here deletes nothing"
        sent = pickle.loads(pickle.dumps(proxy))
        assert not is_resolved(sent)
        assert extract(sent) == target
        assert not store.exists(get_key(proxy))
        assert not is_resolved(store.proxy(target, populate_target=False))
    with open_store(populate_target=False) as store:
        assert not is_resolved(store.proxy(target))
        assert is_resolved(store.proxy(target, populate_target=True))


def test_a_deserializer_may_make_something_else_than_was_put_in() -> None:
    """Colmena puts in the text of a pickle and has the object made of it."""

    with open_store() as store:
        text = pickle.dumps({"a": 1}).hex()
        proxy = store.proxy(text, serializer=str.encode, deserializer=_load)
        assert isinstance(proxy, dict)
        proxy["b"] = 2
        assert proxy == {"a": 1, "b": 2}
        again = pickle.loads(pickle.dumps(proxy))
        assert isinstance(again, dict)


def test_what_programs_compare_with_is_gets_no_proxy() -> None:
    from proxystore.store.exceptions import NonProxiableTypeError

    with open_store() as store:
        for obj in (None, True, False):
            assert store.proxy(obj, skip_nonproxiable=True) is obj
            assert store.locked_proxy(obj, skip_nonproxiable=True) is obj
            with pytest.raises(NonProxiableTypeError, match="skip_nonproxiable"):
                store.proxy(obj)
            with pytest.raises(NonProxiableTypeError):
                store.proxy_batch([1, obj])
        assert store.proxy_batch([1, None, 2], skip_nonproxiable=True) == [1, None, 2]


def test_a_locked_proxy_is_opened_on_purpose_only() -> None:
    from proxystore.proxy import Proxy, ProxyLocker, is_resolved

    with open_store() as store:
        locked = store.locked_proxy([1], populate_target=False)
        assert isinstance(locked, ProxyLocker)
        with pytest.raises(AttributeError, match="unlock"):
            locked.append
        proxy = pickle.loads(pickle.dumps(locked)).unlock()
        assert isinstance(proxy, Proxy)
        assert not is_resolved(locked.unlock())
    with pytest.raises(TypeError, match="takes a proxy"):
        ProxyLocker([1])  # type: ignore[arg-type]


def test_a_lifetime_gets_what_is_put_in_its_name() -> None:
    class Mine:
        def __init__(self) -> None:
            self.keys: list[Any] = []

        def add_key(self, *keys: Any, store: Any) -> None:
            self.keys += [(store, key) for key in keys]

    lifetime = Mine()
    with open_store() as store:
        key = store.put(1, lifetime=lifetime)
        keys = store.put_batch([1, 2], lifetime=lifetime)
        proxies = [store.proxy(1, lifetime=lifetime), *store.proxy_batch([1], lifetime=lifetime)]
        store.proxy_from_key(key, lifetime=lifetime)
        made = [native.get_key(proxy) for proxy in proxies]
        assert lifetime.keys == [(store, k) for k in [key, *keys, *made, key]]
        for call in (store.proxy, store.locked_proxy):
            with pytest.raises(ValueError, match="evict and lifetime"):
                call(1, evict=True, lifetime=lifetime)


def test_its_lifetimes_evict() -> None:
    from proxystore.store.lifetimes import (
        ContextLifetime,
        LeaseLifetime,
        Lifetime,
        StaticLifetime,
    )
    from proxystore.store.utils import get_key

    with open_store() as store:
        with ContextLifetime(store, name="block") as block:
            keys = [store.put(1, lifetime=block), *store.put_batch([1, 2], lifetime=block)]
            keys += map(get_key, store.proxy_batch([[1]], lifetime=block))
            keys.append(get_key(store.proxy([1], lifetime=block)))
            block.add_key(store.put(2))
            block.add_proxy(store.proxy([2], populate_target=False))
            assert all(map(store.exists, keys))
        assert block.done()
        assert not any(map(store.exists, keys))
        for lifetime in (LeaseLifetime(store, 60), StaticLifetime()):
            assert isinstance(lifetime, Lifetime)
            key = store.put(1, lifetime=lifetime)
            lifetime.close()
            assert not store.exists(key)


def test_metrics_are_in_its_terms() -> None:
    with open_store(metrics=True) as store:
        proxy = pickle.loads(pickle.dumps(store.proxy(["x"] * 100)))
        assert len(proxy) == 100
        found = store.metrics.get_metrics(proxy)
        assert {"store.proxy", "store.put", "store.get", "factory.resolve"} <= found.times.keys()
        assert found.attributes["store.put.object_size"] >= 100
        assert found.counters["store.get.cache_misses"] == 1
        plain = found.as_dict()["times"]["store.proxy"]
        assert plain["count"] == 1
        assert plain["min_time_ms"] <= plain["avg_time_ms"] <= plain["max_time_ms"]
        assert store.metrics.aggregate_metrics()["store.put"].count == 1
        assert store.metrics.get_metrics(("no", "key")) is None
    with open_store() as store:
        assert store.metrics is None


def test_what_is_not_adapted_is_the_store_s_own() -> None:
    with open_store() as store:
        assert store.clear() == 0
        assert not store.closed
        with pytest.raises(AttributeError, match="no_such"):
            store.no_such
    store.close()
    assert store.closed


# -- names -------------------------------------------------------------------------------------


def test_stores_by_name_and_by_proxy() -> None:
    from proxystore.store import (
        get_or_create_store,
        get_store,
        register_store,
        store_registration,
        unregister_store,
    )
    from proxystore.store.exceptions import StoreExistsError

    with open_store(register=True) as store:
        assert get_store(store.name) is store
        assert get_store(store.proxy("text")) is store
        assert get_or_create_store(store.config()) is store
        register_store(store)
        other = type(store)(store.name, MemoryConnector("other"))
        with pytest.raises(StoreExistsError):
            register_store(other)
        register_store(other, exist_ok=True)
        assert get_store(store.name) is other
        unregister_store(store.name)
        assert get_store(store.name) is None
        other.close()
        with store_registration(store):
            assert get_store(store.name) is store
        assert get_store(store.name) is None
    with open_store() as first, open_store() as second:
        second.store.name = first.name
        together = store_registration(first, second)
        with pytest.raises(NameTakenError):
            together.__enter__()
        assert get_store(first.name) is None, "none of them, if not all"


def test_a_registered_store_is_kept_by_the_registry_alone() -> None:
    from proxystore.store import get_store

    name = open_store(register=True, populate_target=False).name
    found = get_store(name)
    assert found is not None
    assert not found.populate_target
    found.close()


def test_a_store_of_isthmus_is_seen_through_an_adaptor() -> None:
    from proxystore.store import get_store

    with native.Store("plain", MemoryConnector("plain"), register=True) as plain:
        found = get_store("plain")
        assert found is not None
        assert found.store is plain
        assert found is get_store(plain.proxy([1]))


# -- configuration -----------------------------------------------------------------------------


def test_a_configuration_is_a_field_of_anybodys_model(tmp_path: Path) -> None:
    from proxystore.connectors.file import FileConnector
    from proxystore.store import Store, get_store
    from proxystore.store.config import StoreConfig
    from pydantic import BaseModel

    class Message(BaseModel):
        config: StoreConfig | None = None

    with Store("configured", FileConnector(str(tmp_path)), cache_size=3, metrics=True) as store:
        text = Message(config=store.config()).model_dump_json()
        proxy = pickle.dumps(store.proxy([1]))
    read = Message.model_validate_json(text).config
    assert read is not None
    assert (read.cache_size, read.metrics, read.auto_register) == (3, True, False)
    with Store.from_config(read) as again:
        assert again.config() == read
        assert get_store(pickle.loads(proxy)) is again, "the same store, to its proxies"
    with Store.from_config(read.model_copy(update={"auto_register": True})) as again:
        assert get_store("configured") is again


def test_a_configuration_in_its_own_terms(tmp_path: Path) -> None:
    from proxystore.connectors.local import LocalConnector
    from proxystore.store.config import ConnectorConfig, StoreConfig

    path = "proxystore.connectors.file.FileConnector"
    options = {"store_dir": str(tmp_path), "clear": True}
    with ConnectorConfig(kind=path, options=options).get_connector() as connector:
        assert connector.config() == {"store_dir": str(tmp_path)}
    assert ConnectorConfig(kind="local").get_connector_type() is LocalConnector
    (tmp_path / "store.toml").write_text(
        'name = "toml"\npopulate_target = false\n[connector]\nkind = "local"\noptions = {name = "t"}\n'
    )
    config = StoreConfig.from_toml(tmp_path / "store.toml")
    assert not config.populate_target
    assert config.connector == ConnectorConfig.from_connector(LocalConnector(name="t"))
    assert config.native().kind == "memory"


def test_serializers_travel_in_a_configuration() -> None:
    from proxystore.store import Store
    from proxystore.store.config import ConnectorConfig, StoreConfig

    with open_store(serializer=pickle.dumps, deserializer=pickle.loads) as store:
        config = store.config()
    assert config == StoreConfig.model_validate_json(config.model_dump_json())
    with Store.from_config(config) as store:
        assert store.get(store.put([1])) == [1]
    by_hand = StoreConfig(
        name="x", connector=ConnectorConfig(kind="local"), serializer=pickle.dumps
    )
    assert by_hand.serializer == config.serializer


# -- connectors --------------------------------------------------------------------------------


def test_closing_deletes_only_when_told_to(tmp_path: Path) -> None:
    from proxystore.connectors.file import FileConnector
    from proxystore.store import Store

    def left(close: bool | None, **options: Any) -> bool:
        store = Store("closing", FileConnector(tmp_path, **options))
        key = store.put(b"x")
        store.close(clear=close)
        store.close()
        with native.Store("look", FileConnector(tmp_path)) as look:
            found = look.exists(key)
            look.clear()
            return found

    assert left(None)
    assert not left(None, clear=True)
    assert left(False, clear=True)
    assert not left(True)


def test_a_store_is_closed_even_if_it_cannot_be_cleared(tmp_path: Path) -> None:
    from proxystore.connectors.file import FileConnector
    from proxystore.store import Store

    class Broken(FileConnector):
        def clear(self) -> int:
            raise OSError("gone")

    store = Store("broken", Broken(tmp_path, clear=True))
    with pytest.raises(OSError, match="gone"):
        store.close()
    assert store.closed
    assert store.connector._closed
    store.close()


def test_a_local_connector_has_objects_of_its_own() -> None:
    from proxystore.connectors.local import LocalConnector

    with LocalConnector() as one, LocalConnector() as other:
        assert other.get(one.put(b"x")) is None
    for options in ({"store_dict": {}}, {"include_data_in_config": True}):
        with pytest.raises(SpecError, match="memory of its own"):
            LocalConnector(**options)  # type: ignore[arg-type]


def test_factories() -> None:
    from proxystore.factory import Factory, LambdaFactory, SimpleFactory
    from proxystore.proxy import Proxy

    assert Proxy(SimpleFactory([1])) == [1]
    assert pickle.loads(pickle.dumps(Proxy(LambdaFactory(int, "10", base=2)))) == 2
    with pytest.raises(TypeError, match="has to define resolve"):
        Factory()()


def test_the_error_of_a_missing_object_has_its_name() -> None:
    from proxystore.store.exceptions import ProxyResolveMissingKeyError, StoreError

    assert ProxyResolveMissingKeyError is MissingObjectError
    with open_store() as store:
        gone = store.proxy_from_key(store.put(1))
        store.evict(native.get_key(gone))
        with pytest.raises(ProxyResolveMissingKeyError) as caught:
            gone + 1
        assert isinstance(caught.value, StoreError)


# -- many connectors ---------------------------------------------------------------------------


def routed(**policies: Any) -> Any:
    from proxystore.connectors.local import LocalConnector
    from proxystore.connectors.multi import MultiConnector, Policy
    from proxystore.store import Store

    made = {
        name: (LocalConnector(), Policy(**options) if isinstance(options, dict) else options)
        for name, options in policies.items()
    }
    return Store(f"multi-{uuid.uuid4().hex[:6]}", MultiConnector(made))


def test_sizes_and_priorities_choose() -> None:
    with routed(
        small={"max_size_bytes": 1000},
        large={"min_size_bytes": 1001, "priority": 1},
        best={"priority": 2, "max_size_bytes": 100},
    ) as store:
        assert [store.put(b"x" * n).connector for n in (10, 500, 5000)] == [
            "best",
            "small",
            "large",
        ]


def test_tags_choose_in_both_ways() -> None:
    with routed(
        site={"subset_tags": ["a", "b"], "priority": 3},
        gpu={"superset_tags": ["gpu"], "priority": 2},
        big={"superset_tags": ["gpu", "big"], "priority": 9},
        rest={},
    ) as store:

        def place(**tags: Any) -> str:
            return str(store.put(b"x", **tags).connector)

        assert place() == "site"
        assert place(subset_tags=["a"]) == "site"
        assert place(superset_tags=["gpu"]) == "site", "it asks for nothing; its priority is higher"
        assert place(superset_tags=["gpu", "big", "other"]) == "big"
        with pytest.raises(NoRouteError, match="lacks tags c"):
            store.put(b"x", subset_tags=["a", "c"])
        assert native.get_key(store.proxy(b"x", superset_tags=["gpu", "big"])).connector == "big"
        assert [k.connector for k in store.put_batch([b"x"], subset_tags=["b"])] == ["site"]
        # A store that knows its connector only by its specification routes alike.
        with native.Store.from_config(store.store.config()) as plain:
            view = type(store).over(plain)
            assert view.put(b"x", superset_tags=["gpu", "big"]).connector == "big"


def test_tags_are_nothing_to_a_single_connector() -> None:
    with open_store() as store, pytest.raises(TypeError, match="subset_tags"):
        store.put(b"x", subset_tags=["a"])


def test_hosts_are_regular_expressions() -> None:
    import re
    import socket

    here = re.escape(socket.gethostname())
    with routed(
        other={"host_pattern": r"node\d+-nowhere", "priority": 1}, here={"host_pattern": here}
    ) as s:
        assert s.put(b"x").connector == "here"
    with routed(either={"host_pattern": [r"\d+-nowhere", here]}, mine=native_policy()) as s:
        assert s.put(b"x").connector == "either"


def native_policy() -> Any:
    from isthmus.connectors.multi import Policy

    return Policy(priority=-1)
