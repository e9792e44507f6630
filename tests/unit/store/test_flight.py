from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from isthmus.store.flight import SingleFlight


def test_threads_that_ask_together_fetch_once() -> None:
    flights: SingleFlight[object] = SingleFlight()
    calls: list[int] = []
    asked = threading.Barrier(8)
    release = threading.Event()

    def fetch() -> object:
        calls.append(1)
        release.wait(10)
        return object()

    def ask() -> object:
        asked.wait(10)
        return flights.run("key", fetch)

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ask) for _ in range(8)]
        while not calls or len(waiters(flights, "key")) < 7:
            time.sleep(0)
        release.set()
        assert len({id(a.result(10)) for a in answers}) == len(calls) == 1


def waiters(flights: SingleFlight[object], key: str) -> list[object]:
    """Who waits for the landing: the only way to know that all seven are aboard before it."""
    return list(flights._flights[key].landed._cond._waiters)  # type: ignore[attr-defined]


def test_different_keys_fly_at_once() -> None:
    flights: SingleFlight[int] = SingleFlight()
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda k: flights.run(k, lambda: both.wait(10) * 0 + k), [1, 2]))
    assert results == [1, 2]


def test_a_failure_is_not_shared_and_not_remembered() -> None:
    flights: SingleFlight[int] = SingleFlight()
    with pytest.raises(ZeroDivisionError):
        flights.run("key", lambda: 1 // 0)
    assert flights.run("key", lambda: 7) == 7


def test_a_waiter_of_a_failed_flight_fetches_for_itself() -> None:
    flights: SingleFlight[str] = SingleFlight()
    airborne, crash = threading.Event(), threading.Event()

    def fails() -> str:
        airborne.set()
        crash.wait(10)
        raise OSError("engine")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(flights.run, "key", fails)
        airborne.wait(10)
        second = pool.submit(flights.run, "key", lambda: "landed")
        crash.set()
        assert second.result(10) == "landed"
        with pytest.raises(OSError, match="engine"):
            first.result(10)


def test_a_fetch_that_asks_for_itself_does_not_hang() -> None:
    flights: SingleFlight[int] = SingleFlight()
    assert flights.run("key", lambda: flights.run("key", lambda: 3) + 1) == 4


def test_a_failed_flight_keeps_nothing_alive() -> None:
    class Data:
        pass

    def fails() -> None:
        data = Data()
        seen.append(weakref.ref(data))
        raise OSError("engine")

    seen: list[weakref.ref[Data]] = []
    flights: SingleFlight[None] = SingleFlight()
    gc.disable()
    try:
        with contextlib.suppress(OSError):
            flights.run("key", fails)
        assert seen[0]() is None
    finally:
        gc.enable()
