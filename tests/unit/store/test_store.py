"""What a store does on every connector that needs no server."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import pickle
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import errors
from isthmus import store as store_package
from isthmus.codec import deserialize, serialize
from isthmus.connectors import Connector
from isthmus.connectors.file import FileConnector
from isthmus.connectors.memory import MemoryConnector
from isthmus.proxy import Proxy, extract, get_factory, is_resolved, resolve_async, target_class
from isthmus.store import (
    Store,
    StoreConfig,
    StoreFactory,
    get_key,
    get_or_create_store,
    get_store,
    names,
    register_store,
    unregister_store,
)
from isthmus.store.config import unpack
from isthmus.store.store import RESOLVE_THREADS

OBJECTS = [None, 0, "text", b"\0bytes", [1, {"a": (2, 3)}], np.arange(1000), {"x": np.ones((3, 4))}]


class Reads(MemoryConnector):
    """A memory connector that counts what is read from it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.reads: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()

    def get(self, key: Any) -> Any:
        self.reads.append(key)
        self.gate.wait(10)
        return super().get(key)


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Iterator[Reads]:
    yield Reads(request.node.name)
    MemoryConnector(request.node.name).clear()


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


# -- threads -------------------------------------------------------------------------------------


def test_one_key_is_fetched_once_by_many_threads(counted: Reads) -> None:
    with Store("once", counted) as store, ThreadPoolExecutor(8) as pool:
        key = store.put([1, 2, 3])
        counted.gate.clear()
        got = [pool.submit(store.get, key) for _ in range(8)]
        counted.gate.set()
        assert len({id(g.result(10)) for g in got}) == 1
        assert len(counted.reads) == 1


def test_threads_resolve_different_objects_at_the_same_time(counted: Reads) -> None:
    together = threading.Barrier(4)
    counted.gate.wait = lambda timeout: bool(together.wait(timeout)) or True  # type: ignore[method-assign]
    with Store("parallel", counted) as store, ThreadPoolExecutor(4) as pool:
        proxies = [store.proxy([i]) for i in range(4)]
        # The barrier breaks, and with it this test, unless all four are in the channel at once.
        assert list(pool.map(extract, proxies)) == [[0], [1], [2], [3]]


def test_async_resolve_starts_when_called(counted: Reads) -> None:
    with Store("async", counted, cache_size=0) as store:
        proxy = store.proxy([1])
        started = threading.Event()
        counted.gate.wait = lambda timeout: started.set() or True  # type: ignore[func-returns-value,method-assign]
        future = resolve_async(proxy)
        assert started.wait(10)
        future.result(10)
        assert proxy == [1]
        assert len(counted.reads) == 1


def test_async_resolve_of_a_factory(store: Store) -> None:
    factory = get_factory(store.proxy("x"))
    future = factory.resolve_async()
    assert future.result(10) == "x"
    assert factory() == "x"


def test_a_child_fetches_for_itself_what_its_parent_had_begun(counted: Reads) -> None:
    with Store("forked", counted) as store:
        proxy = store.proxy([1])
        counted.gate.clear()
        future = resolve_async(proxy)
        pid = os.fork()
        if not pid:
            signal.alarm(10)
            counted.gate = threading.Event()
            counted.gate.set()
            os._exit(0 if proxy == [1] else 1)
        counted.gate.set()
        assert future.result(10) == [1]
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_closing_forgets_fetches_that_have_not_begun(counted: Reads) -> None:
    store = Store("cancelled", counted, cache_size=0)
    proxies = [store.proxy([i]) for i in range(RESOLVE_THREADS + 2)]
    counted.gate.clear()
    pending = [resolve_async(proxy) for proxy in proxies]
    while len(counted.reads) < RESOLVE_THREADS:
        time.sleep(0)
    closing = threading.Thread(target=store.close)
    closing.start()
    wait(pending[-2:], 10)  # cancelled
    counted.gate.set()
    closing.join()
    assert proxies == [[i] for i in range(len(proxies))]
    store = get_store(proxies[-1])
    assert store is not None
    store.close()


def test_threads_that_open_one_store_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = StoreConfig("together", "memory", {"name": "together"})
    together = threading.Barrier(2)
    found = names.get_store

    def slow(which: Any) -> Any:
        store = found(which)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.2)  # two that found none before either opened it
        return store

    monkeypatch.setattr(store_package, "get_store", slow)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(get_or_create_store, [config, config])
    with one:
        assert one is other


# -- the cache -----------------------------------------------------------------------------------


class Slow(MemoryConnector):
    """A memory connector whose answers to other threads than the main one wait until told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.read, self.go_on = threading.Event(), threading.Event()

    def get(self, key: Any) -> Any:
        data = super().get(key)
        if threading.current_thread() is not threading.main_thread():
            self.read.set()
            self.go_on.wait(10)
        return data


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("how", ["evict", "clear", "resolve"])
def test_what_is_evicted_while_it_is_fetched_is_not_kept(batch: bool, how: str) -> None:
    with Store("stale", Slow("stale")) as store, ThreadPoolExecutor(1) as pool:
        slow: Any = store.connector
        key = store.put([1])
        late = pool.submit(store.get_batch, [key]) if batch else pool.submit(store.get, key)
        slow.read.wait(10)
        if how == "evict":
            store.evict(key)
        elif how == "clear":
            store.clear()
        else:
            assert store.proxy_from_key(key, evict=True) == [1]
        assert store.get(key) is None, "nor is the fetch under way joined"
        slow.go_on.set()
        assert late.result(10) == ([[1]] if batch else [1])
        assert store.get(key) is None


def test_the_cache_hands_out_shared_objects_and_size_zero_isolates(
    make: Callable[..., Store],
) -> None:
    sharing, isolating = make(cache_size=4), make(cache_size=0)
    key = sharing.put([1])
    assert sharing.get(key) is sharing.get(key)
    isolating.get(key).append(2)
    assert isolating.get(key) == [1]


def test_writing_to_an_isolated_array_stays_private(make: Callable[..., Store]) -> None:
    store = make(cache_size=0)
    key = store.put(np.zeros(100_000))
    mine = store.get(key)
    if store.connector.kind == "memory":
        # There is nobody else's memory to protect it with, so what is shared is read-only.
        with pytest.raises(ValueError, match="read-only"):
            mine[:] = 7
    else:
        mine[:] = 7
        assert mine.sum() == 700_000
    assert store.get(key).sum() == 0


def test_changing_the_original_does_not_reach_the_store(store: Store) -> None:
    array = np.zeros(50_000)
    key = store.put(array)
    array[:] = 1
    assert store.get(key).sum() == 0


@pytest.mark.parametrize("obj", ["word", b"bytes", 3, 2.5, None, True])
def test_process_memory_holds_what_nobody_can_change_by_reference(obj: Any) -> None:
    with Store("held", MemoryConnector("held")) as store:
        key = store.put(obj)
        assert store.get(key) is obj
        assert store.get_batch([key]) == [obj]
        assert deserialize(store.connector.get(key)) == obj  # type: ignore[arg-type]
        store.clear()


def test_process_memory_holds_anything_on_a_promise() -> None:
    with Store("promised", MemoryConnector("promised")) as store:
        array = np.zeros(3)
        assert store.get(store.put(array, copy=False)) is array
        assert extract(store.proxy(array, copy=False)) is array
        copied = store.get(store.put(array))
        array[:] = 1
        assert copied.sum() == 0
        store.clear()


def test_a_deserializer_of_its_own_leaves_the_cache_alone(store: Store) -> None:
    key = store.put("text")
    assert store.get(key, deserializer=lambda data: len(data)) != "text"
    assert store.get(key) == "text"


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


# -- names and configuration ---------------------------------------------------------------------


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


def test_extra_keywords_reach_the_connector(counted: Reads) -> None:
    with Store("keywords", counted) as store:
        with pytest.raises(TypeError, match="tag"):
            store.put(1, tag="x")
        with pytest.raises(TypeError, match="tag"):
            store.proxy(1, tag="x")


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
