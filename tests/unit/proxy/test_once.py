"""A factory is called once, whoever asks, and its errors reach all who wait."""

from __future__ import annotations

import gc
import os
import threading
from types import ModuleType

import pytest

from isthmus.proxy import _once
from tests.unit.proxy.gate import Gate


def in_threads(count: int, use: object, gate: Gate) -> list[object]:
    """Use a proxy from many threads at once, with the factory held until all are there."""
    results: list[object] = []
    ready = threading.Barrier(count + 1)

    def run() -> None:
        ready.wait(20)
        try:
            results.append(use())  # type: ignore[operator]
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    ready.wait(20)
    assert gate.entered.wait(20)
    gate.open.set()
    for thread in threads:
        thread.join(20)
    return results


def test_eight_threads_call_the_factory_once(px: ModuleType) -> None:
    gate = Gate()
    p = px.Proxy(gate)
    assert in_threads(8, lambda: p + 1, gate) == [8] * 8
    assert gate.calls == 1


def test_an_error_reaches_every_waiting_thread_with_a_note(px: ModuleType) -> None:
    gate = Gate(KeyError("gone"))
    p = px.Proxy(gate, px.TargetClass.of(int))
    results = in_threads(4, lambda: p + 1, gate)
    # A thread that came after the first call ended has made a call of its own; all failed alike.
    assert results == [gate.target] * 4
    (note,) = gate.target.__notes__  # type: ignore[union-attr]
    assert note.startswith("while resolving <unresolved Proxy of builtins.int from <")


def test_the_next_use_tries_again(px: ModuleType) -> None:
    outcomes: list[object] = [OSError("down"), OSError("down"), "up"]

    def factory() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    p = px.Proxy(factory)
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            len(p)
        assert not px.is_resolved(p)
    assert p == "up"


def test_an_interrupt_is_for_its_own_thread(px: ModuleType) -> None:
    """Who waited for the interrupted call makes another."""
    gate = Gate()
    outcomes = [KeyboardInterrupt, None]

    def factory() -> object:
        outcome = outcomes.pop(0)
        if outcome is not None:
            gate()
            raise outcome
        return 7

    p = px.Proxy(factory)
    raised: list[object] = []

    def interrupted() -> None:
        try:
            len(p)
        except KeyboardInterrupt as error:
            raised.append(error)

    first = threading.Thread(target=interrupted)
    first.start()
    assert gate.entered.wait(20)
    got: list[object] = []
    second = threading.Thread(target=lambda: got.append(p + 1))
    second.start()
    gate.open.set()
    first.join(20)
    second.join(20)
    assert len(raised) == 1
    assert got == [8]


@pytest.mark.parametrize("use", [len, repr, lambda p: p.attribute, lambda p: p.__class__])
def test_a_factory_that_uses_its_own_proxy_is_told(px: ModuleType, use: object) -> None:
    def factory() -> object:
        if use is repr:  # which does not resolve
            assert repr(p).startswith("<unresolved Proxy from <function")
            return [1]
        return use(p)  # type: ignore[operator]

    p = px.Proxy(factory)
    if use is repr:
        assert p == [1]
        return
    with pytest.raises(RecursionError, match="its factory uses the proxy that it was called for"):
        p + 1
    assert not px.is_resolved(p)


def test_two_threads_that_wait_for_each_other_are_told(px: ModuleType) -> None:
    both = threading.Barrier(2)

    def a_needs_b() -> int:
        both.wait(20)
        return b + 1

    def b_needs_a() -> int:
        both.wait(20)
        return a + 1

    a, b = px.Proxy(a_needs_b), px.Proxy(b_needs_a)
    errors: list[BaseException] = []

    def use(p: object) -> None:
        try:
            len(p)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(p,)) for p in (a, b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    # One is refused; the other's factory got that error from the proxy that it used.
    assert [type(error) for error in errors] == [RecursionError] * 2


def test_a_child_forked_while_another_thread_resolves_does_not_wait_for_it(px: ModuleType) -> None:
    gate = Gate()
    p = px.Proxy(gate)
    thread = threading.Thread(target=lambda: p + 1)
    thread.start()
    assert gate.entered.wait(20)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            gate.open.set()  # the child's own copy: its factory call goes through
            status = 0 if p + 1 == 8 and px.is_resolved(p) else 2
        finally:
            os._exit(status)
    _, code = os.waitpid(child, 0)
    gate.open.set()
    thread.join(20)
    assert os.waitstatus_to_exitcode(code) == 0
    assert p == 7


def test_a_factory_may_fork(px: ModuleType) -> None:
    def factory() -> int:
        child = os.fork()
        if child == 0:
            return 5
        _, code = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(code)

    me = os.getpid()
    p = px.Proxy(factory)
    value = p + 1
    if os.getpid() != me:
        os._exit(value)
    assert value == 7


def test_a_proxy_of_a_proxy_acts_as_the_innermost(px: ModuleType) -> None:
    inner = px.Proxy(lambda: [1, 2])
    outer = px.Proxy(lambda: inner)
    assert outer == [1, 2]
    assert outer + [3] == [1, 2, 3]  # noqa: RUF005
    assert len(outer) == 2
    assert isinstance(outer, list)
    assert not callable(outer)
    assert px.extract(outer) is px.extract(inner)


@pytest.mark.parametrize("bad", [7, "text", None])
def test_a_factory_has_to_be_callable(px: ModuleType, bad: object) -> None:
    with pytest.raises(TypeError, match="a proxy needs a factory, a callable without arguments"):
        px.Proxy(bad)


@pytest.mark.parametrize("bad", [int, "builtins.int", (1, 2), ("builtins", "int", "many")])
def test_about_has_to_be_a_target_class(px: ModuleType, bad: object) -> None:
    with pytest.raises(TypeError, match="about is a TargetClass or None"):
        px.Proxy(int, bad)


def test_an_interrupt_before_the_factory_leaves_nothing(
    px: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come when the attempt is on record and its factory not yet called."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    p = px.Proxy(lambda: 7)
    with monkeypatch.context() as patch:
        patch.setattr(_once, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            p + 1
    assert p + 1 == 8


def test_a_finalizer_may_use_a_proxy_at_any_time(
    px: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector runs it where it likes, in the midst of resolving another proxy too."""
    seen = []

    class Finalized:
        def __init__(self) -> None:
            self.me = self
            self.proxy = px.Proxy(lambda: 1)

        def __del__(self) -> None:
            seen.append(self.proxy + 1)

    class Collecting(_once.Attempt):
        __slots__ = ()

        def __init__(self, owner: int | None) -> None:
            gc.collect()
            super().__init__(owner)

    monkeypatch.setattr(_once, "Attempt", Collecting)
    Finalized()
    assert px.Proxy(lambda: 2) + 1 == 3
    assert seen == [2]
