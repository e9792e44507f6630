"""Lifetimes of blocks and of the process, on every connector that needs no server."""

from __future__ import annotations

import pickle
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from isthmus.connectors.memory import MemoryConnector
from isthmus.errors import (
    BrokenError,
    IsthmusError,
    KeyTypeError,
    LifetimeEndedError,
    LifetimeError,
    MovedError,
)
from isthmus.proxy import Proxy
from isthmus.store import Store, get_key, ownership
from isthmus.store.lifetime import (
    CollectingLifetime,
    ContextLifetime,
    LeaseLifetime,
    Lifetime,
    StaticLifetime,
)


def count(store: Store) -> int:
    connector: Any = store.connector
    return len(list(connector.list()))


class Flaky(MemoryConnector):
    """Process memory that can be out of reach."""

    away: Exception | None = None

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.evicted: list[Any] = []

    def evict(self, key: Any) -> None:
        if self.away is not None:
            raise self.away
        self.evicted.append(key)
        super().evict(key)


@pytest.fixture
def flaky() -> Iterator[Flaky]:
    connector = Flaky(f"test-{uuid.uuid4().hex[:8]}")
    yield connector
    connector.close()
    MemoryConnector(connector.config()["name"]).clear()


@pytest.mark.parametrize("kind", [ContextLifetime, CollectingLifetime, StaticLifetime])
def test_all_that_was_stored_under_it_goes_at_its_end(store: Store, kind: Any) -> None:
    kept = store.put("kept")
    lifetime = kind()
    assert isinstance(lifetime, Lifetime)
    key = store.put("value", lifetime=lifetime)
    keys = store.put_batch([1, [2], "3"], lifetime=lifetime)
    proxy = store.proxy({"a": 1}, lifetime=lifetime)
    proxies = store.proxy_batch(iter([[1], [2]]), lifetime=lifetime)
    future = store.future(lifetime=lifetime)
    future.set_result("later")
    lone = store.put("added", serializer=None)
    lifetime.add_key(lone, store=store)
    lifetime.add_proxy(store.proxy([3]))
    assert proxy == {"a": 1}
    assert [list(p) for p in proxies] == [[1], [2]]
    assert len(lifetime.keys()) == 10
    assert not lifetime.done()
    lifetime.close()
    assert lifetime.done()
    assert lifetime.keys() == []
    gone = [key, *keys, get_key(proxy), *map(get_key, proxies), future.key, lone]
    assert not any(map(store.exists, gone))
    assert store.exists(kept)
    assert count(store) == 1
    lifetime.close()


def test_a_block(store: Store) -> None:
    with ContextLifetime(store, name="block") as lifetime:
        key = store.put("value", lifetime=lifetime)
        lifetime.add_key(store.put("other"))
        assert "'block' of 2 objects" in repr(lifetime)
    assert not store.exists(key)
    assert count(store) == 0
    with pytest.raises(LifetimeEndedError, match="takes nothing more"), lifetime:
        pass


@pytest.mark.parametrize("lifetime", [ContextLifetime(), LeaseLifetime(None, 60)], ids=repr)
def test_what_has_ended_takes_nothing(store: Store, lifetime: Any) -> None:
    lifetime.close()
    key = store.put("mine")
    proxy = store.proxy_from_key(key)
    refused: list[Callable[[], Any]] = [
        lambda: store.put("value", lifetime=lifetime),
        lambda: store.put_batch(["value"], lifetime=lifetime),
        lambda: store.proxy("value", lifetime=lifetime),
        lambda: store.proxy_batch(["value"], lifetime=lifetime),
        lambda: store.future(lifetime=lifetime),
        lambda: lifetime.add_key(key, store=store),
        lambda: lifetime.add_proxy(proxy),
        lambda: lifetime.add(ContextLifetime()),
    ]
    for call in refused:
        with pytest.raises(LifetimeEndedError):
            call()
    assert count(store) == 1


def test_one_that_ends_while_something_is_stored_leaves_nothing(store: Store) -> None:
    lifetime = ContextLifetime()

    def slow(obj: Any) -> bytes:
        lifetime.close()
        return pickle.dumps(obj)

    with pytest.raises(LifetimeEndedError):
        store.put("value", serializer=slow, lifetime=lifetime)
    assert count(store) == 0


def test_threads_add_while_it_ends(make: Callable[..., Store]) -> None:
    store = make(cache_size=0)
    lifetime = ContextLifetime()
    began = threading.Barrier(5)
    refused: list[int] = []

    def add() -> None:
        began.wait()
        for number in range(100):
            try:
                store.put(number, lifetime=lifetime)
            except LifetimeEndedError:
                refused.append(number)

    def end() -> None:
        began.wait()
        lifetime.close()
        assert lifetime.keys() == []

    threads = [threading.Thread(target=add) for _ in range(3)]
    threads += [threading.Thread(target=end) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(store) == 0
    with pytest.raises(LifetimeEndedError):
        store.put("value", lifetime=lifetime)


def test_each_is_evicted_once(flaky: Flaky) -> None:
    with Store(None, flaky) as store:
        outer, inner = ContextLifetime(store), ContextLifetime(store)
        key = store.put("value", lifetime=inner)
        inner.add_key(key, tuple(key), key)
        inner.add_proxy(store.proxy_from_key(key))
        outer.add(inner, inner)
        threads = [threading.Thread(target=outer.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        inner.close()
        assert flaky.evicted == [key]


def test_what_it_owns_ends_first_the_last_added_first(flaky: Flaky) -> None:
    ended: list[str] = []

    class Thing:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            ended.append(f"{self.name} after {len(flaky.evicted)}")

    with Store(None, flaky) as store:
        outer, inner = ContextLifetime(), ContextLifetime()
        store.put("value", lifetime=outer)
        inner.add(Thing("deep"))
        outer.add(Thing("first"), inner)
        outer.close()
        assert ended == ["deep after 0", "first after 0"]
        assert inner.done()
        assert len(flaky.evicted) == 1


def test_nobody_owns_itself() -> None:
    outer, middle, inner = (ContextLifetime(name=name) for name in ("a", "b", "c"))
    outer.add(middle)
    middle.add(inner)
    for lifetime in (outer, middle, inner):
        with pytest.raises(ValueError, match="cannot own it"):
            inner.add(lifetime)

    class Caller:
        def close(self) -> None:
            outer.close()  # returns, and does not begin anew

    inner.add(Caller())
    outer.close()
    assert inner.done()


def test_stores_may_differ_and_may_be_closed_before(make: Callable[..., Store]) -> None:
    here = make("here")
    connector = MemoryConnector(f"test-{uuid.uuid4().hex[:8]}")
    lifetime = ContextLifetime(name="both")
    with Store("there", connector) as there:
        one, other = here.put("one", lifetime=lifetime), there.put("other", lifetime=lifetime)
        assert sorted(lifetime.keys()) == [("here", one), ("there", other)]
    here.close()
    lifetime.close()
    for was, key in ((here, one), (there, other)):
        with type(was).from_config(was.config()) as again:
            assert not again.exists(key)
            assert count(again) == 0


def test_a_store_that_was_opened_again_serves(make: Callable[..., Store]) -> None:
    lifetime = ContextLifetime()
    store = make("again")
    proxy: Proxy[list[int]] = store.proxy([1, 2], lifetime=lifetime)
    config, key = store.config(), get_key(proxy)
    store.close()
    with Store.from_config(config) as again:
        assert again.get(key) == [1, 2]
        lifetime.close()
        assert not again.exists(key)
        assert not again.is_cached(key), "the cache must not know what is gone"


def test_what_failed_is_told_together_and_tried_again(flaky: Flaky) -> None:
    other = MemoryConnector(f"test-{uuid.uuid4().hex[:8]}")
    with Store("away", flaky) as away, Store("there", other) as there:
        lifetime = ContextLifetime(name="campaign")
        keys = away.put_batch([1, 2, 3], lifetime=lifetime)
        key = there.put("value", lifetime=lifetime)

        class Stuck:
            free = False

            def close(self) -> None:
                if not self.free:
                    raise RuntimeError("stuck")

        stuck = Stuck()
        lifetime.add(stuck)
        flaky.away = BrokenError("redis", "gone")
        with pytest.raises(LifetimeError) as told:
            lifetime.close()
        assert re.search("'campaign'.*stuck, and 1 more; try again", str(told.value))
        assert isinstance(told.value, IsthmusError)
        assert lifetime.done()
        ending, evicting = told.value.exceptions
        assert "while ending Stuck" in ending.__notes__[0]
        assert evicting is flaky.away
        first, rest = evicting.__notes__
        assert "store 'away'" in first
        assert "2 more of this store were not tried" in rest
        assert not there.exists(key)
        assert all(map(away.exists, keys))
        assert sorted(lifetime.keys()) == [("away", k) for k in sorted(keys)]

        again = pickle.loads(pickle.dumps(told.value))
        assert str(again) == str(told.value)
        broken, others = told.value.split(BrokenError)
        assert isinstance(broken, LifetimeError)
        assert isinstance(others, LifetimeError)

        flaky.away, stuck.free = None, True
        lifetime.close()
        assert lifetime.keys() == []
        assert count(away) == 0


def test_a_channel_that_answers_is_asked_for_each(flaky: Flaky) -> None:
    with Store("picky", flaky) as store:
        lifetime = ContextLifetime()
        store.put_batch([1, 2, 3], lifetime=lifetime)
        flaky.away = PermissionError("not yours")
        with pytest.raises(LifetimeError) as told:
            lifetime.close()
        assert len(told.value.exceptions) == 3
        flaky.away = None
        lifetime.close()


def fail_within(lifetime: ContextLifetime, store: Store, connector: Flaky, error: Any) -> None:
    with lifetime:
        store.put("value", lifetime=lifetime)
        connector.away = BrokenError("redis", "gone")
        if error is not None:
            raise error


def test_the_blocks_own_error_is_the_news(flaky: Flaky) -> None:
    with Store(None, flaky) as store:
        for error in (KeyError("mine"), None):
            lifetime = ContextLifetime()
            with pytest.raises(LifetimeError if error is None else KeyError) as told:
                fail_within(lifetime, store, flaky, error)
            if error is not None:
                assert any("redis" in note for note in told.value.__notes__)
            flaky.away = None
            lifetime.close()
            assert count(store) == 0


def test_what_it_does_not_take(store: Store) -> None:
    lifetime = ContextLifetime()
    key = store.put("value")
    with pytest.raises(TypeError, match="takes a lifetime"):
        store.put("value", lifetime=object())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="store="):
        lifetime.add_key(key)
    with pytest.raises(KeyTypeError):
        lifetime.add_key(key, 3, store=store)
    for thing in ("value", Proxy(list)):
        with pytest.raises(TypeError, match="made by a store"):
            lifetime.add_proxy(store.proxy_from_key(key), thing)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has a close"):
        lifetime.add(3)
    assert lifetime.keys() == []
    assert count(store) == 1


def test_one_of_ones_own(store: Store) -> None:
    class Recent:
        """Keeps the last two objects."""

        def __init__(self) -> None:
            self.kept: list[tuple[Store, Any]] = []

        def add_key(self, *keys: Any, store: Store | None = None) -> None:
            assert store is not None
            self.kept += [(store, key) for key in keys]
            self.shorten(2)

        def add_proxy(self, *proxies: Proxy[Any]) -> None:
            raise AssertionError("a store adds keys")

        def shorten(self, length: int) -> None:
            while len(self.kept) > length:
                store, key = self.kept.pop(0)
                store.evict(key)

        def close(self) -> None:
            self.shorten(0)

        def done(self) -> bool:
            return False

    recent = Recent()
    keys = store.put_batch([1, 2, 3, 4], lifetime=recent)
    assert [store.exists(key) for key in keys] == [False, False, True, True]
    with ContextLifetime() as lifetime:
        lifetime.add(recent)
    assert count(store) == 0


def test_one_that_refuses_leaves_nothing(store: Store) -> None:
    class Refusing(CollectingLifetime):
        def add_key(self, *keys: Any, store: Store | None = None) -> None:
            raise MemoryError

    with pytest.raises(MemoryError):
        store.put_batch([1, 2], lifetime=Refusing())
    assert count(store) == 0


def test_a_static_one_is_the_processs(store: Store) -> None:
    one = StaticLifetime()
    assert StaticLifetime() is one
    key = store.put("value", lifetime=StaticLifetime())
    one.close()
    assert not store.exists(key)
    assert StaticLifetime() is not one
    assert not StaticLifetime().done()


def test_proxies_that_are_evicted_by_both(store: Store) -> None:
    with ContextLifetime() as lifetime:
        proxy = store.proxy([1, 2], evict=True, lifetime=lifetime)
        assert len(proxy) == 2
        assert count(store) == 0
    assert count(store) == 0


def test_a_closed_store_stores_nothing(make: Callable[..., Store]) -> None:
    store = make()
    store.close()
    lifetime = ContextLifetime()
    with pytest.raises(IsthmusError, match="is closed"):
        store.put("value", lifetime=lifetime)
    assert lifetime.keys() == []


def test_owned_proxies_are_dropped(store: Store) -> None:
    lifetime = ContextLifetime()
    one, other, gone, lent = (store.owned_proxy([n]) for n in range(4))
    lifetime.add_proxy(one, store.proxy("plain"))
    lifetime.add(other, gone, lent)
    ownership.drop(gone)
    reference = ownership.borrow(lent)
    for add in (lifetime.add, lifetime.add_proxy):
        with pytest.raises(TypeError, match="borrowed"):
            add(reference)
    with pytest.raises(LifetimeError) as told:
        lifetime.close()
    assert [type(error).__name__ for error in told.value.exceptions] == ["BorrowedError"]
    assert count(store) == 1
    ownership.drop(reference)
    lifetime.close()
    assert count(store) == 0


def test_an_owner_is_made_under_a_lifetime(store: Store) -> None:
    with ContextLifetime() as lifetime:
        owned = store.owned_proxy([1], lifetime=lifetime)
        assert count(store) == 1
    assert count(store) == 0
    with pytest.raises(MovedError):
        ownership.borrow(owned)
    with pytest.raises(LifetimeEndedError):
        store.owned_proxy([2], lifetime=lifetime)
    assert count(store) == 0
