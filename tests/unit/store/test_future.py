"""Futures on every connector that needs no server."""

from __future__ import annotations

import asyncio
import copy
import io
import math
import pickle
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from isthmus import errors
from isthmus.connectors.memory import MemoryConnector
from isthmus.proxy import Proxy, extract, is_resolved, resolve_async
from isthmus.store import Future, Store, future_from_wire, get_key, get_store
from isthmus.store.background import RESOLVE_THREADS


def listed(store: Store) -> list[Any]:
    connector: Any = store.connector
    return list(connector.list())


def save(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def load(data: Any) -> Any:
    return np.load(io.BytesIO(data))


def failed(says: str) -> ValueError:
    try:
        raise ValueError(says)
    except ValueError as error:
        return error


@pytest.mark.parametrize("obj", [None, "value", [1, {"a": 2}], np.arange(5_000)], ids=type)
def test_what_is_set_is_what_all_get(store: Store, obj: Any) -> None:
    future: Future[Any] = store.future()
    proxies = [future.proxy() for _ in range(3)]
    assert not future.done()
    future.set_result(obj)
    assert future.done()
    for got in (future.result(0), *map(extract, proxies)):
        assert type(got) is type(obj)
        assert pickle.dumps(got) == pickle.dumps(obj)
    assert future.exception() is None


def test_copies_are_as_good_as_the_original(store: Store) -> None:
    future: Future[list[int]] = store.future(list, timeout=20.0)
    producer, consumer = pickle.loads(pickle.dumps(future)), copy.copy(future)
    proxy = pickle.loads(pickle.dumps(consumer.proxy()))
    assert (producer.key, producer.store, producer.timeout) == (future.key, store, 20.0)
    producer.set_result([1])
    assert future.done()
    assert consumer.result() == proxy == [1]
    late = pickle.loads(pickle.dumps(producer))
    assert late.result() == [1]


def test_a_consumer_waits_for_its_producer(store: Store) -> None:
    future: Future[str] = store.future()
    lengths: list[int] = []
    consumer = threading.Thread(
        target=lambda proxy: lengths.append(len(proxy)), args=[future.proxy()]
    )
    consumer.start()
    future.set_result("value")
    consumer.join(20)
    assert lengths == [5]


def test_a_result_that_does_not_come_in_time_is_an_error(store: Store) -> None:
    future: Future[int] = store.future(timeout=0)
    for wait in (
        future.result,
        lambda: future.result(0.001),
        future.exception,
        lambda: extract(future.proxy()),
        lambda: extract(future.proxy(timeout=0.001)),
        lambda: resolve_async(future.proxy()).result(20),
    ):
        with pytest.raises(TimeoutError, match=rf"{store.name}.*did not come within") as caught:
            wait()
        assert isinstance(caught.value, errors.WaitTimeoutError)
    patient = future.proxy(timeout=math.inf)
    future.set_result(1)
    assert patient == 1
    assert future.result(math.inf) == 1


def test_a_proxy_that_timed_out_may_be_used_again(store: Store) -> None:
    future: Future[int] = store.future(timeout=0)
    proxy = future.proxy()
    with pytest.raises(errors.WaitTimeoutError):
        extract(proxy)
    future.set_result(3)
    assert proxy == 3


def test_an_exception_is_raised_with_its_traceback(store: Store) -> None:
    future: Future[int] = store.future()
    future.set_exception(failed("on purpose"))
    for use in (future.result, lambda: future.proxy() + 1):
        with pytest.raises(ValueError, match="on purpose") as caught:
            use()
        shown = "".join(traceback.format_exception(caught.value))
        assert "raise ValueError(says)" in shown
    assert isinstance(future.exception(), ValueError)
    assert future.exception() is not future.exception(), "each his own, for its traceback grows"


def test_what_cannot_travel_or_would_end_the_consumer_is_told(store: Store) -> None:
    class Local(Exception):
        def __init__(self) -> None:
            super().__init__("held", threading.Lock())

    for error, kind in ((Local(), "Local"), (SystemExit(3), "SystemExit")):
        future: Future[int] = store.future()
        future.set_exception(error)
        with pytest.raises(errors.RemoteError, match=kind):
            future.result()
    with pytest.raises(TypeError, match="takes an exception"):
        store.future().set_exception("text")  # type: ignore[arg-type]


def test_a_second_value_is_refused_and_told_what_stands(store: Store) -> None:
    future: Future[Any] = store.future()
    twin = pickle.loads(pickle.dumps(future))
    future.set_result([1])
    for again in (future, twin, twin):
        with pytest.raises(errors.AlreadySetError, match="to a list"):
            again.set_result([2])
    with pytest.raises(errors.AlreadySetError, match="to a list"):
        twin.set_exception(ValueError())
    assert twin.result() == [1]
    future.evict()
    with pytest.raises(errors.AlreadySetError, match="was evicted"):
        twin.set_result([2])

    wrong: Future[Any] = store.future()
    wrong.set_exception(KeyError("x"))
    with pytest.raises(errors.AlreadySetError, match=r"an exception, KeyError\('x'\)"):
        wrong.set_result(1)
    large: Future[Any] = store.future()
    large.set_result(bytes(100_000))
    with pytest.raises(errors.AlreadySetError, match=r"an object of 100\d\d\d bytes"):
        large.set_result(1)
    assert pickle.loads(pickle.dumps(errors.AlreadySetError("a", "b"))).args == ("a", "b")


def test_one_of_many_producers_wins(store: Store) -> None:
    future: Future[int] = store.future()
    together = threading.Barrier(4)
    lost: list[int] = []

    def produce(number: int) -> None:
        together.wait(20)
        try:
            pickle.loads(pickle.dumps(future)).set_result(number)
        except errors.AlreadySetError:
            lost.append(number)

    threads = [threading.Thread(target=produce, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*lost, future.result()]) == [0, 1, 2, 3]


def test_nothing_is_left_of_what_nobody_sets_and_nothing_after_eviction(store: Store) -> None:
    future: Future[int] = store.future()
    proxy = future.proxy()
    assert listed(store) == []
    with pytest.raises(errors.CodecError):
        future.set_result(threading.Lock())  # type: ignore[arg-type]
    assert listed(store) == []
    future.set_result(1)
    assert len(listed(store)) == 1
    assert proxy == 1
    future.evict()
    future.evict()
    assert listed(store) == []
    assert proxy == 1
    with pytest.raises(errors.MissingObjectError, match="evicted"):
        future.result()
    with pytest.raises(errors.WaitTimeoutError):
        pickle.loads(pickle.dumps(future)).result(0)


@pytest.mark.parametrize("outcome", [7, ValueError("seven")], ids=type)
def test_a_proxy_may_take_the_result_away(store: Store, outcome: Any) -> None:
    future: Future[int] = store.future()
    proxy = pickle.loads(pickle.dumps(future.proxy(evict=True)))
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
        with pytest.raises(ValueError, match="seven"):
            extract(proxy)
    else:
        future.set_result(outcome)
        assert proxy == 7
    assert listed(store) == []


def test_a_class_told_in_advance_is_answered_without_waiting(store: Store) -> None:
    future = store.future(np.ndarray)
    proxy = pickle.loads(pickle.dumps(future.proxy()))
    assert isinstance(proxy, np.ndarray)
    assert not isinstance(proxy, str)
    assert not callable(proxy)
    assert not is_resolved(proxy)
    with pytest.raises(TypeError, match="of ndarray and cannot be set to a list"):
        future.set_result([1])  # type: ignore[arg-type]
    future.set_result(np.ones(3))
    assert proxy.sum() == 3


def test_looking_at_a_proxy_does_not_wait(store: Store) -> None:
    future: Future[str] = store.future()
    proxy = future.proxy()
    assert isinstance(future, Future)
    assert type(proxy) is not str
    assert store.name in repr(proxy)
    assert "result of future" in repr(proxy)
    assert "Future" in repr(future)
    assert get_key(proxy) == future.key
    assert get_store(proxy) is store
    assert len(pickle.dumps(proxy, 5)) <= 250 + len(str(store.connector.config()))
    assert not is_resolved(proxy)


def test_serializers_of_ones_own_leave_exceptions_alone(make: Callable[..., Store]) -> None:
    store, plain = make(serializer=save, deserializer=load), make()
    future: Future[Any] = store.future()
    future.set_result(np.arange(4))
    assert extract(future.proxy()).sum() == 6
    other: Future[Any] = plain.future()
    other.set_result(np.arange(4), serializer=save)
    assert extract(other.proxy(deserializer=load)).sum() == 6
    for each in (store.future(), plain.future()):
        each.set_exception(ValueError("plain"))
        with pytest.raises(ValueError, match="plain"):
            extract(each.proxy(deserializer=load))
        with pytest.raises(ValueError, match="plain"):
            each.result()


def test_what_is_no_future_is_refused(store: Store) -> None:
    (wire,) = store.proxy(1).__reduce__()[1]
    with pytest.raises(errors.CodecError, match="not a future"):
        future_from_wire(wire)


def test_a_connector_that_cannot_wait_says_so() -> None:
    class Plain:
        """A connector with the nine methods alone."""

        def __init__(self) -> None:
            self._inner = MemoryConnector("plain")

        def __getattr__(self, name: str) -> Any:
            if name in ("reserve", "put_at", "wait"):
                raise AttributeError(name)
            return getattr(self._inner, name)

    with (
        Store("plain", Plain()) as store,  # type: ignore[arg-type]
        pytest.raises(errors.CapabilityError, match="ReservingConnector"),
    ):
        store.future()


def test_a_closed_store_ends_the_waiting(store: Store) -> None:
    future: Future[int] = store.future()
    background = resolve_async(future.proxy())
    store.close()
    with pytest.raises(errors.ClosedError):
        background.result(20)
    with pytest.raises(errors.ClosedError):
        store.future()


# -- without holding threads ---------------------------------------------------------------------


async def first_step(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    await asyncio.sleep(0)
    return task


def test_many_are_awaited_by_few_threads(store: Store) -> None:
    futures: list[Future[int]] = [store.future() for _ in range(200)]
    before = threading.active_count()

    async def consume() -> list[int]:
        waiting = asyncio.gather(*futures)
        await asyncio.sleep(0)
        assert threading.active_count() - before <= 2, "one thread waits for all"
        for number, future in reversed(list(enumerate(futures))):
            future.set_result(number)
        return await waiting

    assert asyncio.run(consume()) == list(range(200))


def test_proxies_that_wait_in_the_background_do_not_keep_others_from_theirs(store: Store) -> None:
    futures: list[Future[int]] = [store.future() for _ in range(RESOLVE_THREADS + 4)]
    pending = [resolve_async(future.proxy()) for future in futures]
    futures[-1].set_result(1)
    assert pending[-1].result(20) == 1, "though more than there are threads wait before it"
    for future in futures[:-1]:
        future.set_result(0)
    assert {one.result(20) for one in pending[:-1]} == {0}


def test_awaiting_raises_what_was_set_and_gives_up_in_time(store: Store) -> None:
    async def consume() -> None:
        wrong: Future[int] = store.future()
        wrong.set_exception(failed("awaited"))
        with pytest.raises(ValueError, match="awaited"):
            await wrong
        with pytest.raises(errors.WaitTimeoutError):
            await store.future(timeout=0.001)
        never: Future[int] = store.future()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(never, 0.001)
        # Given up by one, it can still be awaited by another.
        again = asyncio.gather(never, never)
        never.set_result(4)
        assert await again == [4, 4]
        assert never.done()

    asyncio.run(consume())


def test_a_cancelled_wait_leaves_no_thread(store: Store) -> None:
    async def consume() -> None:
        waiting = asyncio.ensure_future(asyncio.gather(store.future(), store.future()))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(consume())
    thread = store._waiter._thread
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()


def test_a_proxy_of_unknown_class_tells_an_engine_that_it_is_a_proxy(store: Store) -> None:
    proxy = store.future().proxy()
    asking: dict[str, Any] = {"__name__": "distributed.protocol.pickle"}
    exec("def ask(x): return x.__class__, isinstance(x, str), hasattr(x, '__dask_graph__')", asking)
    assert asking["ask"](proxy) == (Proxy, False, False)
    assert not is_resolved(proxy)


def test_the_result_has_the_lease_that_the_future_was_told(store: Store) -> None:
    connector: Any = store.connector
    future: Future[int] = store.future(lease=60)
    travelled: Future[int] = pickle.loads(pickle.dumps(future))
    began = time.time()
    travelled.set_result(1)
    assert began + 59 < connector.stat(future.key).until < time.time() + 61
    assert store.renew([future.key]) == [True]
    other: Future[int] = store.future(lease=60)
    other.set_exception(failed("leased, too"), lease=600)
    assert connector.stat(other.key).until > time.time() + 500
    third: Future[int] = store.future(lease=60)
    third.set_result(1, lease=None)
    assert connector.stat(third.key).until is None
    assert pickle.loads(pickle.dumps(third.proxy())) == 1
    fourth: Future[int] = store.future()
    fourth.set_result(2, lease=60, held=True)
    assert store.renew([fourth.key]) == [True], "held for this process, so nobody knows until when"


def test_a_lease_where_there_are_none() -> None:
    class Unleased(MemoryConnector):
        lease = renew = None  # type: ignore[assignment]

    with Store(None, Unleased(f"test-{uuid.uuid4().hex[:8]}")) as store:
        with pytest.raises(errors.CapabilityError):
            store.future(lease=60)
        future: Future[int] = store.future()
        with pytest.raises(errors.CapabilityError):
            future.set_result(1, lease=60)
        assert not future.done()
        future.set_result(1)
        assert future.result() == 1
        store.clear()
