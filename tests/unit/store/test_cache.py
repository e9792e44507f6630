from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.store.cache import Cache


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(2)
    cache.put("a", 1, 1)
    cache.put("b", 2, 1)
    assert cache.get("a") == 1
    cache.put("c", 3, 1)
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)


def test_bytes_bound_as_well_as_count() -> None:
    cache = Cache(10, max_bytes=100)
    cache.put("a", 1, 60)
    cache.put("b", 2, 60)
    assert "a" not in cache
    assert cache.nbytes == 60
    cache.put("huge", 3, 101)
    assert "huge" not in cache
    assert "b" in cache


def test_size_zero_keeps_nothing() -> None:
    cache = Cache(0)
    cache.put("a", 1, 0)
    assert len(cache) == 0


@pytest.mark.parametrize(("count", "nbytes"), [(-1, None), (1, -1)])
def test_negative_bounds_are_refused(count: int, nbytes: int | None) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        Cache(count, nbytes)


def test_a_finalizer_may_use_the_cache_that_drops_it() -> None:
    cache = Cache(1)

    class Returns:
        def __del__(self) -> None:
            cache.get("x")

    cache.put("a", Returns(), 1)
    cache.put("b", None, 1)
    cache.put("a", Returns(), 1)
    cache.clear()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 6), st.integers(0, 50)),
        st.tuples(st.sampled_from(["get", "evict"]), st.integers(0, 6), st.just(0)),
    )
)


@given(OPERATIONS, st.integers(0, 4), st.none() | st.integers(0, 100))
def test_bounds_hold_after_every_operation(
    operations: list[tuple[str, int, int]], count: int, nbytes: int | None
) -> None:
    cache = Cache(count, nbytes)
    sizes: dict[int, int] = {}
    for name, key, size in operations:
        if name == "put":
            cache.put(key, ("object", key), size)
            sizes[key] = size
        elif name == "get":
            assert cache.get(key) in (None, ("object", key))
        else:
            cache.evict(key)
            assert key not in cache
        assert len(cache) <= count
        assert cache.nbytes == sum(sizes[k] for k in range(7) if k in cache)
        assert nbytes is None or cache.nbytes <= nbytes


def test_a_finalizer_run_under_the_lock_may_use_the_cache() -> None:
    cache = Cache(2)
    cache.put("b", 2, 0)

    class Key(str):
        """Stands for the garbage collector, which runs finalizers in the middle of anything."""

        def __hash__(self) -> int:
            cache.evict("b")
            return hash(str(self))

    done = threading.Event()
    threading.Thread(target=lambda: (cache.put(Key("a"), 1, 0), done.set()), daemon=True).start()
    assert done.wait(10)
    assert cache.get("a") == 1
    assert "b" not in cache
