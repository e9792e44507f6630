"""What a store does on every connector that needs no server."""

from __future__ import annotations

import copy
import io
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from isthmus import errors
from isthmus.codec import deserialize, serialize
from isthmus.proxy import Proxy, extract, get_factory, is_resolved, target_class
from isthmus.store import (
    Store,
    StoreFactory,
    get_key,
    get_store,
)
from isthmus.store.config import unpack

OBJECTS = [None, 0, "text", b"\0bytes", [1, {"a": (2, 3)}], np.arange(1000), {"x": np.ones((3, 4))}]


def same(a: Any, b: Any) -> bool:
    return pickle.dumps(a) == pickle.dumps(b)


@pytest.mark.parametrize("obj", OBJECTS, ids=lambda o: type(o).__name__)
def test_what_is_put_is_got(store: Store, obj: Any) -> None:
    key = store.put(obj)
    assert store.exists(key)
    assert same(store.get(key), obj)
    assert same(extract(store.proxy(obj)), obj)
    store.evict(key)
    assert not store.exists(key)
    assert store.get(key, "default") == "default"
    store.evict(key)


def test_a_stored_none_is_not_a_missing_object(store: Store) -> None:
    key = store.put(None)
    assert store.get(key, "missing") is None
    store.evict(key)
    assert store.get(key) is None
    assert store.get(key, "missing") == "missing"


def test_batches_keep_their_order(store: Store) -> None:
    keys = store.put_batch(OBJECTS)
    for got, put in zip(store.get_batch(keys), OBJECTS, strict=True):
        assert same(got, put)
    store.evict(keys[1])
    assert store.get_batch(keys[:3], "gone")[1:] == ["gone", "text"]
    assert store.get_batch([]) == []
    for proxy, put in zip(store.proxy_batch(OBJECTS), OBJECTS, strict=True):
        assert same(extract(proxy), put)


def test_a_proxy_is_lazy_and_knows_its_class(store: Store) -> None:
    proxy = store.proxy(np.arange(6))
    assert isinstance(proxy, Proxy)
    assert isinstance(proxy, np.ndarray)
    assert not is_resolved(proxy)
    about = target_class(proxy)
    assert about is not None
    assert about[:2] == ("numpy", "ndarray")
    assert store.name in repr(proxy)
    assert not is_resolved(proxy)
    assert proxy.sum() == 15
    assert is_resolved(proxy)


def test_a_deserializer_of_its_own_may_make_another_class(store: Store) -> None:
    """What goes in says nothing of what comes out, so the class is asked of the object itself."""
    proxy = store.proxy("[1, 2]", serializer=str.encode, deserializer=json.loads)
    assert target_class(proxy) is None
    assert isinstance(proxy, list)
    proxy[0] = 3
    assert proxy == [3, 2]
    assert isinstance(pickle.loads(pickle.dumps(proxy)), list)


def test_what_was_read_is_cached_until_it_is_evicted(store: Store) -> None:
    key = store.put([1])
    assert not store.is_cached(key)
    store.get(key)
    assert store.is_cached(key)
    store.evict(key)
    assert not store.is_cached(key)


def test_evict_on_resolve_takes_the_only_copy(store: Store) -> None:
    proxy = store.proxy([1, 2], evict=True)
    other = pickle.loads(pickle.dumps(proxy))
    key = get_key(proxy)
    assert store.exists(key)
    assert proxy == [1, 2]
    assert not store.exists(key)
    with pytest.raises(errors.MissingObjectError, match="evict=True"):
        extract(other)
    assert proxy == [1, 2]


def test_a_missing_object_is_named(store: Store) -> None:
    proxy = store.proxy({"a": 1})
    store.evict(get_key(proxy))
    with pytest.raises(KeyError) as caught:
        len(proxy)
    text = str(caught.value)
    assert store.name in text
    assert str(get_key(proxy)[0]) in text
    assert "made on" in text
    assert any("Proxy" in note for note in caught.value.__notes__)


def test_a_proxy_of_a_key_alone(store: Store) -> None:
    key = store.put("word")
    proxy = store.proxy_from_key(key)
    assert proxy.upper() == "WORD"


def test_a_pickled_proxy_finds_its_open_store(store: Store) -> None:
    proxy = pickle.loads(pickle.dumps(store.proxy([1])))
    assert get_store(proxy) is store
    assert proxy == [1]


def test_a_pickled_factory_works_as_its_proxy_does(store: Store) -> None:
    factory = pickle.loads(pickle.dumps(get_factory(store.proxy("x"))))
    assert isinstance(factory, StoreFactory)
    assert factory() == "x"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_of_a_proxy_resolve(store: Store, copied: Callable[[Any], Any]) -> None:
    assert copied(store.proxy([1])) == [1]


def test_the_wire_form_is_small(make: Callable[..., Store]) -> None:
    proxy = make("measurements").proxy(np.arange(10))
    size = len(pickle.dumps(proxy, 5))
    config = get_store(proxy).connector.config()  # type: ignore[union-attr]
    folder = config.get("store_dir", config.get("spill_dir", ""))
    # 25 bytes are kept free for a trace context; a directory's name may take 40.
    assert size - max(0, len(folder) - 40) <= 250 - 25


def test_a_proxy_of_another_version_says_so(store: Store) -> None:
    data = bytearray(get_factory(store.proxy(1)).to_wire(None))
    data[0] = 200
    from isthmus.store import proxy_from_wire

    with pytest.raises(errors.CodecError, match="version 200"):
        proxy_from_wire(bytes(data))
    with pytest.raises(errors.CodecError, match="not a store's proxy"):
        proxy_from_wire(bytes(data[:1]).replace(b"\xc8", b"\x01") + b"\xff\x00")
    with pytest.raises(errors.CodecError):
        proxy_from_wire(b"")


@pytest.mark.parametrize(
    "packed", [b"", b"\xc1", b"\x01", b"\x90", b"\x98" + 8 * b"\x01"], ids=repr
)
def test_what_is_no_configuration_is_refused(packed: bytes) -> None:
    with pytest.raises(errors.SpecError, match="StoreConfig"):
        unpack(packed)


# -- serializers ---------------------------------------------------------------------------------


def to_buffer(obj: Any) -> bytes:
    out = io.BytesIO()
    pickle.dump(("marked", obj), out)
    return out.getvalue()


def from_buffer(data: Any) -> Any:
    mark, obj = pickle.loads(data)
    assert mark == "marked"
    return obj


def test_a_store_with_a_serializer_of_its_own(make: Callable[..., Store]) -> None:
    store = make(serializer=to_buffer, deserializer=from_buffer)
    assert store.get(store.put({"a": 1})) == {"a": 1}
    assert extract(pickle.loads(pickle.dumps(store.proxy({"a": 1})))) == {"a": 1}
    again = Store.from_config(store.config())
    assert again.get(store.put({"a": 1})) == {"a": 1}
    again.close()


def test_a_proxy_with_a_serializer_of_its_own(store: Store) -> None:
    proxy = store.proxy([1], serializer=to_buffer, deserializer=from_buffer)
    assert extract(pickle.loads(pickle.dumps(proxy))) == [1]


@pytest.mark.filterwarnings("ignore:.*travels by value")
def test_a_serializer_may_fall_back_to_the_codec(make: Callable[..., Store]) -> None:
    store = make(serializer=lambda obj: serialize(obj), deserializer=deserialize)
    assert store.get(store.put([1])) == [1]


def test_a_serializer_that_returns_no_bytes_is_named(store: Store) -> None:
    with pytest.raises(TypeError, match="returned str, not bytes"):
        store.put(1, serializer=lambda obj: "text")  # type: ignore[arg-type,return-value]


def test_an_unpicklable_object_says_what_to_do(store: Store) -> None:
    with pytest.raises(errors.CodecError, match="lock"):
        store.put({"guard": threading.Lock()})


def test_metrics_tell_operations_proxies_and_hits(make: Callable[..., Store]) -> None:
    assert make().metrics is None
    store = make(metrics=True)
    assert store.metrics is not None
    proxy = store.proxy(np.zeros(1000))
    again = pickle.loads(pickle.dumps(proxy))
    assert proxy.sum() + again.sum() == 0
    mine = store.metrics.get_metrics(proxy)
    assert mine is not None
    assert mine == store.metrics.get_metrics(get_key(proxy))
    counts = {name: op.count for name, op in mine.items()}
    assert counts == {
        "encode": 1, "connector.put": 1, "put": 1, "proxy": 1,
        "cache.miss": 1, "connector.get": 1, "decode": 1, "get": 1, "resolve": 2, "cache.hit": 1,
    }  # fmt: skip
    assert mine["put"].bytes >= 8000
    assert mine["get"].bytes == mine["put"].bytes
    assert store.metrics.get_metrics("stranger") is None


def test_clear_deletes_what_the_channel_holds(store: Store) -> None:
    keys = store.put_batch([1, 2, 3])
    assert store.get_batch(keys) == [1, 2, 3]
    assert store.clear() == 3
    assert store.get_batch(keys) == [None] * 3


@pytest.mark.parametrize("length", [3, 5_000, 50_000])
def test_an_array_can_be_written_to_whatever_its_size(
    make: Callable[..., Store], length: int
) -> None:
    """What works on a large array must not fail on the small one of a trial run."""
    store = make()
    if store.connector.kind == "memory":
        pytest.skip("hands out the stored bytes themselves, read-only")
    key = store.put(np.ones(length))
    found = store.get(key)
    found *= 2
    assert found.sum() == 2 * length
    assert store.get(key) is found
    with make(cache_size=0) as again:
        assert again.get(key).sum() == length


def test_a_lease_is_given_renewed_and_given_up(store: Store) -> None:
    keys = [store.put([1, 2], lease=600.0), *store.put_batch([b"3", "4"], lease=600.0)]
    proxies = [store.proxy([5], lease=600.0), *store.proxy_batch([(6,), [7]], lease=600.0)]
    keys += [get_key(proxy) for proxy in proxies]
    stat = store.connector.stat  # type: ignore[attr-defined]
    assert all(stat(key).until is not None for key in keys)
    assert store.renew(keys) == [True] * 6
    assert store.renew(map(tuple, keys)) == [True] * 6
    assert store.lease(keys[0], None) is True
    assert store.renew(keys[:2]) == [False, True]
    store.evict(keys[1])
    assert store.lease(keys[1], 5.0) is False
    assert proxies[0] == [5]


def test_what_a_store_keeps_as_it_is_has_a_lease_too(store: Store) -> None:
    key = store.put("immutable", lease=600.0)
    assert store.renew([key]) == [True]


def test_a_lease_that_ran_out_is_said(store: Store) -> None:
    proxy = store.proxy([1], lease=0.001)
    key = get_key(proxy)
    while store.exists(key):
        store.connector.sweep()  # type: ignore[attr-defined]
    with pytest.raises(errors.MissingObjectError, match="lease"):
        extract(proxy)


class Plain:
    """The least that a store takes for a connector: no leases."""

    kind, key_type, spec = "plain", tuple, None

    def config(self) -> dict[str, Any]:
        return {}

    def put(self, obj: Any) -> Any: ...

    get = evict = exists = close = put


def test_a_connector_without_leases_is_named() -> None:
    store = Store("plain", Plain())  # type: ignore[arg-type]
    for use in (
        lambda: store.put(1, lease=5.0),
        lambda: store.put_batch([1], lease=5.0),
        lambda: store.proxy(1, lease=5.0),
        lambda: store.lease((1,), 5.0),
        lambda: store.renew([(1,)]),
    ):
        with pytest.raises(errors.CapabilityError, match="LeasingConnector"):
            use()
