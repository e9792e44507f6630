"""The wrapper around executors, over one whose tasks run when the test says."""

from __future__ import annotations

import concurrent.futures
from concurrent.futures import CancelledError, Executor, Future
from typing import Any

import pytest

from isthmus.bench.executor import FutureDependencyExecutor
from isthmus.errors import ClosedError, DependencyError


class ByHand(Executor):
    def __init__(self) -> None:
        self.queue: list[tuple[Future[Any], Any, Any, Any]] = []
        self.shutdowns: list[bool] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.queue.append((future, fn, args, kwargs))
        return future

    def run(self) -> None:
        while self.queue:
            future, fn, args, kwargs = self.queue.pop(0)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except Exception as error:
                    future.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.shutdowns.append(wait)


@pytest.fixture
def hand() -> ByHand:
    return ByHand()


@pytest.fixture
def executor(hand: ByHand) -> FutureDependencyExecutor:
    return FutureDependencyExecutor(hand)


def test_a_call_without_futures_costs_no_second_future(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    assert executor.submit(abs, -1) is hand.queue[0][0]


def test_a_call_waits_outside_the_executor(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    first = executor.submit(abs, -1)
    second = executor.submit(max, [first, 5], default=first)
    assert len(hand.queue) == 1
    hand.run()
    assert second.result(0) == 5


def test_a_long_chain_fails_without_recursion(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    last = executor.submit(int, "x")
    for _ in range(5000):
        last = executor.submit(abs, last)
    hand.run()
    error = last.exception(0)
    assert isinstance(error, DependencyError)
    assert isinstance(error.__cause__, ValueError)


def test_a_long_chain_is_cancelled_without_recursion(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    first = executor.submit(abs, -1)
    last = second = executor.submit(abs, first)
    for _ in range(5000):
        last = executor.submit(abs, last)
    assert second.cancel()
    assert last.cancelled()
    done, _ = concurrent.futures.wait([last], timeout=0)
    assert done == {last}
    with pytest.raises(CancelledError):
        last.result(0)


def test_a_delayed_call_that_was_submitted_is_cancelled_there(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    first = executor.submit(abs, -1)
    second = executor.submit(abs, first)
    future, *_ = hand.queue.pop()
    future.set_result(1)
    assert len(hand.queue) == 1
    assert second.cancel()
    assert hand.queue[0][0].cancelled()
    assert second.cancelled()


def test_a_running_call_cannot_be_cancelled(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    second = executor.submit(abs, executor.submit(abs, -1))
    hand.queue.pop()[0].set_result(1)
    hand.queue[0][0].set_running_or_notify_cancel()
    assert not second.cancel()
    hand.queue[0][0].set_result(4)
    assert second.result(0) == 4


def test_a_refusal_of_the_executor_reaches_the_future(
    hand: ByHand, executor: FutureDependencyExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = executor.submit(abs, executor.submit(abs, -1))
    refusal = RuntimeError("no more")

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise refusal

    monkeypatch.setattr(hand, "submit", refuse)
    hand.run()
    assert second.exception(0) is refusal


def test_shutdown_without_waiting_leaves_it_to_the_last_delayed_call(
    hand: ByHand, executor: FutureDependencyExecutor
) -> None:
    second = executor.submit(abs, executor.submit(abs, -1))
    executor.shutdown(wait=False)
    assert hand.shutdowns == []
    with pytest.raises(ClosedError):
        executor.submit(abs, 1)
    hand.run()
    assert second.result(0) == 1
    assert hand.shutdowns == [False]


def test_shutdown_can_cancel_what_waits(hand: ByHand, executor: FutureDependencyExecutor) -> None:
    second = executor.submit(abs, executor.submit(abs, -1))
    executor.shutdown(wait=True, cancel_futures=True)
    assert second.cancelled()
    assert hand.shutdowns == [True]
