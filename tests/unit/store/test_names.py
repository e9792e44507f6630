"""How a store is named, configured, found again and closed."""

from __future__ import annotations

import json
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from isthmus import errors
from isthmus.connectors import Connector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.memory import MemoryConnector
from isthmus.proxy import Proxy, is_resolved
from isthmus.store import (
    Store,
    StoreConfig,
    get_key,
    get_or_create_store,
    get_store,
    names,
    register_store,
    unregister_store,
)
from isthmus.store.config import unpack


def test_names_are_given_on_request(make: Callable[..., Store]) -> None:
    store = make("named")
    other = make("named")
    assert get_store("named") in (store, other)
    register_store(store)
    register_store(store)
    assert get_store("named") is store
    with pytest.raises(errors.NameTakenError, match="named"):
        register_store(other)
    with pytest.raises(errors.NameTakenError):
        make("named", register=True)
    register_store(other, exist_ok=True)
    assert get_store("named") is other
    unregister_store("named")
    unregister_store("named")
    store.close()
    other.close()
    assert get_store("named") is None


def test_closing_frees_the_name(make: Callable[..., Store]) -> None:
    make("again", register=True).close()
    make("again", register=True).close()


def test_configuration_goes_out_and_in(make: Callable[..., Store]) -> None:
    store = make("configured", cache_size=3, cache_bytes=1000, metrics=True)
    config = store.config()
    key = store.put("x")
    with Store.from_config(config) as again:
        assert again.config() == config
        assert type(again.connector) is type(store.connector)
        assert again.get(key) == "x"
    plain = config.config()
    assert StoreConfig.from_config(plain) == config
    assert get_or_create_store(plain) is store
    with pytest.raises(errors.NameTakenError):
        get_or_create_store({**plain, "options": {"name": "elsewhere"}, "kind": "memory"})


def test_a_configuration_off_the_wire_is_the_same_store(make: Callable[..., Store]) -> None:
    config = make("round", cache_bytes=1 << 30, cache_size=1000).config()
    again = StoreConfig.from_config(json.loads(json.dumps(config.config())))
    assert again.pack() == config.pack()
    assert unpack(config.pack()) == config


def test_a_store_pickles_as_what_opens_it(make: Callable[..., Store]) -> None:
    store = make("travelling", cache_size=3)
    assert pickle.loads(pickle.dumps(store)) is store
    data, key = pickle.dumps(store), store.put([1])
    store.close()
    with pickle.loads(data) as again:
        assert again is not store
        assert (again.config(), again.get(key)) == (store.config(), [1])


def test_get_or_create_opens_and_registers(tmp_path: Path) -> None:
    config = {"name": "fresh", "kind": "file", "options": {"store_dir": str(tmp_path)}}
    store = get_or_create_store(config)
    assert get_or_create_store(config) is store is get_store("fresh")
    store.close()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"kind": "fiel"}, errors.UnknownKindError, "did you mean 'file'"),
        ({"cache": 3}, errors.SpecError, "cache"),
        ({"options": {"directory": "x"}}, errors.SpecError, "directory"),
        ({"options": {"store_dir": 7}}, errors.SpecError, "store_dir"),
        ({"cache_size": -1}, ValueError, "cannot hold"),
    ],
)
def test_a_wrong_configuration_names_the_field(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    config = {"name": "a", "kind": "file", "options": {"store_dir": str(tmp_path)}}
    with pytest.raises(error, match=says):
        Store.from_config({**config, **change})


def test_a_connector_is_asked_for_where_none_is_given() -> None:
    with pytest.raises(TypeError, match="not a connector"):
        Store("name", {"kind": "file"})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="first argument is its name"):
        Store(MemoryConnector("x"))  # type: ignore[arg-type]


def test_a_wrong_key_says_which_is_right(store: Store) -> None:
    for key in ("text", 3, None, ("too", "many", "parts", "for", "any", "key", "at", "all")):
        for operation in (store.get, store.exists, store.evict, store.proxy_from_key):
            with pytest.raises(errors.KeyTypeError, match="use the key that put"):
                operation(key)  # type: ignore[operator]


def test_a_closed_store_says_so(make: Callable[..., Store]) -> None:
    store = make("shut")
    key = store.put(1)
    store.close()
    store.close()
    for use in (
        lambda: store.put(1),
        lambda: store.get(key),
        lambda: store.exists(key),
        lambda: store.evict(key),
        lambda: store.proxy(1),
        lambda: store.proxy_from_key(key),
        lambda: store.get_batch([key]),
        lambda: store.put_batch([1]),
        lambda: store.clear(),
    ):
        with pytest.raises(errors.ClosedError, match="'shut' is closed"):
            use()
    assert "closed" in repr(store)


def test_a_proxy_outlives_the_store_object(tmp_path: Path) -> None:
    with Store("left", FileConnector(tmp_path)) as store:
        proxy = store.proxy([1])
    assert proxy == [1]
    reopened = get_store("left")
    assert reopened is not None
    assert reopened is not store
    reopened.close()


def test_a_store_that_nobody_holds_is_collected(connector: Connector[Any]) -> None:
    store = Store("brief", connector)
    gone = weakref.ref(store)
    del store
    assert gone() is None
    assert get_store("brief") is None
    connector.close()


def test_get_store_and_get_key_refuse_strangers() -> None:
    with pytest.raises(TypeError, match="name or a proxy"):
        get_store(3)
    assert get_store(Proxy(list)) is None
    with pytest.raises(TypeError, match="made by a store"):
        get_key(Proxy(list))


def test_a_proxy_of_a_text_is_no_name(make: Callable[..., Store]) -> None:
    store = make("text", register=True)
    for text in ("text", "another"):
        proxy = store.proxy(text)
        assert get_store(proxy) is store
        assert not is_resolved(proxy)


def test_only_a_registered_store_has_its_name_to_itself(make: Callable[..., Store]) -> None:
    store = make("mine")
    assert names.registered("mine") is None
    register_store(store)
    assert names.registered("mine") is store


def test_the_key_of_a_proxy_that_travelled_is_of_its_connectors_type(
    make: Callable[..., Store],
) -> None:
    store = make("keys")
    proxy = store.proxy([1])
    travelled = pickle.loads(pickle.dumps(proxy))
    assert type(get_key(travelled)) is type(get_key(proxy)) is store.connector.key_type
    assert get_key(travelled) == get_key(proxy)
