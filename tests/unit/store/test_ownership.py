"""Each rule of ownership, each of its errors, and the rules against a model."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from isthmus import errors
from isthmus.connectors.file import FileConnector
from isthmus.connectors.memory import MemoryConnector
from isthmus.connectors.shm import SharedMemoryConnector
from isthmus.proxy import Proxy, extract, is_resolved
from isthmus.store import (
    OwnedProxy,
    RefMutProxy,
    RefProxy,
    Store,
    borrow,
    clone,
    drop,
    into_owned,
    mut_borrow,
    renewal,
    update,
)
from isthmus.store.scopes import submit, task

HERE = "test_ownership.py:[0-9]+"


@pytest.fixture(params=["memory", "shm", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    connector: Any = {
        "memory": lambda: MemoryConnector(tmp_path.name),
        "shm": lambda: SharedMemoryConnector(tmp_path.name, spill_dir=str(tmp_path)),
        "file": lambda: FileConnector(tmp_path),
    }[request.param]()
    with Store("owning", connector) as store:
        yield store
        emptied(store)
        assert renewal.held() == []


def count(store: Store) -> int:
    return len(list(store.connector.list()))  # type: ignore[attr-defined]


def emptied(store: Store) -> None:
    """Wait until nothing is left: what the collector finds, a thread evicts."""
    gc.collect()
    deadline = time.monotonic() + 10
    while count(store):
        assert time.monotonic() < deadline, "an object stays"
        time.sleep(0.001)


class Engine:
    """Runs a task when it is told to, as an engine would that has other things to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Any, Any, Any]] = []

    def submit(self, function: Any, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.calls.append((future, function, args, kwargs))
        return future

    def run(self, *, tries: int = 1) -> None:
        future, function, args, kwargs = self.calls.pop(0)
        if not future.set_running_or_notify_cancel():
            return
        for left in reversed(range(tries)):
            # As on its way to a worker, and by way of a scheduler that looks into everything.
            sent, named = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps((args, kwargs)))))
            try:
                result = function(*sent, **named)
            except Exception as error:
                if not left:
                    future.set_exception(error)
            else:
                future.set_result(pickle.loads(pickle.dumps(result)))
                return


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_handles_are_what_they_say_and_what_they_stand_for(store: Store) -> None:
    owned = store.owned_proxy([1, 2, 3])
    with pytest.raises(TypeError):
        hash(owned)
    reference = borrow(owned)
    assert isinstance(owned, OwnedProxy)
    assert isinstance(owned, Proxy)
    assert isinstance(owned, list)
    assert isinstance(reference, RefProxy)
    assert not isinstance(reference, OwnedProxy)
    assert reference == [1, 2, 3]
    assert len(owned) == 3
    drop(reference)
    mutable = mut_borrow(owned)
    assert isinstance(mutable, RefMutProxy)
    assert isinstance(mutable, list)
    del mutable
    assert owned == [1, 2, 3]


def test_an_object_goes_with_its_owner(store: Store) -> None:
    owned = store.owned_proxy({"a": 1})
    assert count(store) == 1
    del owned
    assert count(store) == 0


def test_a_cycle_that_is_collected_takes_its_object_along(store: Store) -> None:
    cycle: list[Any] = [store.owned_proxy([1])]
    cycle.append(cycle)
    del cycle
    emptied(store)


def test_dropping_is_final(store: Store) -> None:
    owned = store.owned_proxy([1])
    drop(owned)
    assert count(store) == 0
    for use in (len, borrow, mut_borrow, clone, update, drop):
        with pytest.raises(errors.MovedError, match=f"one owner: .*was dropped at .*{HERE}"):
            use(owned)


@pytest.mark.parametrize(
    ("first", "then", "told"),
    [
        (borrow, mut_borrow, "not both: .* cannot be borrowed mutably: it is borrowed at"),
        (mut_borrow, borrow, "not both: .* cannot be borrowed: it is mutably borrowed at"),
        (mut_borrow, mut_borrow, "not both: .* it is mutably borrowed at"),
        (mut_borrow, len, "cannot be read by its owner: it is mutably borrowed at"),
        (mut_borrow, clone, "cannot clone it: it is mutably borrowed at"),
        (borrow, update, "not both: .* cannot update it: it is borrowed at"),
        (borrow, drop, "never outlives its owner: .* cannot drop it: it is borrowed at"),
        (mut_borrow, drop, "never outlives its owner: .* it is mutably borrowed at"),
    ],
)
def test_what_a_reference_forbids(store: Store, first: Any, then: Any, told: str) -> None:
    owned = store.owned_proxy([1])
    reference = first(owned)
    with pytest.raises(errors.BorrowedError, match=f"{told} .*{HERE}.*; ") as caught:
        then(owned)
    assert isinstance(caught.value, errors.OwnershipError)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    del reference, caught
    assert count(store) == 1
    if then is not drop:
        then(owned)


def test_many_read_at_once(store: Store, engine: Engine) -> None:
    owned = store.owned_proxy([1, 2])
    reference = borrow(owned)
    futures = [submit(engine.submit, args=(sum, reference)) for _ in range(3)]
    futures.append(submit(engine.submit, args=(sum, borrow(owned))))
    for _ in range(3):
        engine.run()
        with pytest.raises(errors.BorrowedError, match=f"given to a task at .*{HERE}"):
            drop(owned)
    engine.run()
    assert [future.result() for future in futures] == [3] * 4
    with pytest.raises(errors.MovedError, match="a reference ends with its task"):
        len(reference)
    again = submit(engine.submit, args=(sum, reference))  # as if it were borrowed again
    with pytest.raises(errors.BorrowedError):
        drop(owned)
    engine.run()
    assert again.result() == 3
    drop(owned)  # noqa: IOW001
    with pytest.raises(errors.MovedError):
        submit(engine.submit, args=(sum, reference))


def append(target: Any, item: Any) -> None:
    target.append(item)
    update(target)


def test_one_changes_it_and_the_owner_sees(store: Store, engine: Engine) -> None:
    owned = store.owned_proxy([1])
    assert owned == [1]
    mutable = mut_borrow(owned)
    submit(engine.submit, args=(append, mutable, 2))
    with pytest.raises(errors.BorrowedError, match="is for one task"):
        submit(engine.submit, args=(append, mutable, 3))
    engine.run()
    assert owned == [1, 2]
    with pytest.raises(errors.BorrowedError, match="is for one task"):
        submit(engine.submit, args=(append, mutable, 3))
    owned.append(3)
    update(owned)
    del mutable
    other = borrow(owned)
    assert other == [1, 2, 3]
    other.append(4)  # a copy of its own
    assert borrow(owned) == [1, 2, 3] == owned
    with pytest.raises(errors.OwnershipError, match="for reading"):
        update(other)  # type: ignore[arg-type]


def give_back(target: Any) -> Any:
    return [target]


def test_an_owner_moves_into_a_task_and_back(store: Store, engine: Engine) -> None:
    owned = store.owned_proxy([1])
    assert len(owned) == 1
    future = submit(engine.submit, args=(give_back, owned))
    for use in (len, borrow, drop):
        with pytest.raises(errors.MovedError, match=f"was moved to a task at .*{HERE}"):
            use(owned)
    del owned
    engine.run()
    (back,) = future.result()
    del future
    assert isinstance(back, OwnedProxy)
    assert back == [1]
    borrow(back)
    drop(back)


def test_what_a_task_was_given_goes_with_it(store: Store, engine: Engine) -> None:
    future = submit(engine.submit, args=(sum, store.owned_proxy([1, 2])))
    assert count(store) == 1
    engine.run()
    assert future.result() == 3
    assert count(store) == 0


def test_a_failed_task_takes_its_object_along_at_last(store: Store, engine: Engine) -> None:
    seen = []

    def fails(target: Any) -> Any:
        seen.append(sum(target))
        raise ValueError

    future = submit(engine.submit, args=(fails, store.owned_proxy([1, 2])))
    engine.run(tries=3)
    assert isinstance(future.exception(), ValueError)
    assert seen == [3, 3, 3]
    assert count(store) == 0


def test_a_task_that_is_tried_again_finds_what_it_was_given(store: Store, engine: Engine) -> None:
    tries = []

    def second(target: Any, reference: Any) -> Any:
        tries.append(sum(target) + sum(reference))
        if len(tries) < 2:
            raise ValueError
        return target

    lent = store.owned_proxy([1])
    future = submit(
        engine.submit, args=(second, store.owned_proxy([2])), kwargs={"reference": borrow(lent)}
    )
    engine.run(tries=2)
    back = future.result()
    del future
    assert tries == [3, 3]
    assert back == [2]
    assert count(store) == 2


def test_a_cancelled_task_takes_its_object_along(store: Store, engine: Engine) -> None:
    owned = store.owned_proxy([1])
    reference = borrow(owned)
    future = submit(engine.submit, args=(sum, store.owned_proxy([1])), kwargs={"start": reference})
    assert count(store) == 2
    future.cancel()
    engine.run()
    drop(owned)


def test_what_cannot_be_submitted_stays_as_it_was(store: Store) -> None:
    def refuse(*args: Any) -> Any:
        raise RuntimeError("full")

    owned, other = store.owned_proxy([1]), store.owned_proxy([2])
    reference, mutable = borrow(other), mut_borrow(owned)
    with pytest.raises(RuntimeError):
        submit(refuse, args=(sum, reference, [mutable], {"a": store.owned_proxy([3])}))
    assert reference == [2]
    assert mutable == [1]
    drop(mutable)
    with pytest.raises(RuntimeError):
        submit(refuse, args=(sum, owned))
    assert owned == [1]  # noqa: IOW001
    with pytest.raises(errors.OwnershipError, match="one owner"):
        submit(refuse, args=(sum, owned, owned))
    with pytest.raises(errors.BorrowedError):
        submit(refuse, args=(sum, reference, other))
    assert owned == [1]
    assert other == [2]  # noqa: IOW004


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_handles_neither_travel_alone_nor_are_copied(store: Store, copying: Any) -> None:
    owned = store.owned_proxy([1])
    for handle in (owned, borrow(owned)):
        with pytest.raises(errors.OwnershipError, match=r"submit|clone\(\)") as caught:
            copying(handle)
        if copying is pickle.dumps:
            assert "isthmus.store.scopes.submit or a StoreExecutor" in str(caught.value)


def test_a_reference_is_not_returned(store: Store, engine: Engine) -> None:
    owned = store.owned_proxy([1])
    future = submit(engine.submit, args=(give_back, borrow(owned)))
    engine.run()
    with pytest.raises(errors.OwnershipError, match=r"return extract\(reference\)"):
        future.result()


def test_a_task_lends_on_and_waits(store: Store, engine: Engine) -> None:
    inner = Engine()

    def outer(reference: Any, wait: bool) -> int:
        future = submit(inner.submit, args=(sum, reference))
        if wait:
            inner.run()
        return int(future.result()) if wait else 0

    owned = store.owned_proxy([1, 2])
    futures = [submit(engine.submit, args=(outer, borrow(owned), wait)) for wait in (True, False)]
    engine.run()
    engine.run()
    assert futures[0].result() == 3
    with pytest.raises(errors.BorrowedError, match=r"lent on to a task at .* has not ended"):
        futures[1].result()
    inner.run()

    def passes(mutable: Any) -> None:
        submit(inner.submit, args=(sum, mutable))

    future = submit(engine.submit, args=(passes, mut_borrow(owned)))
    engine.run()
    with pytest.raises(errors.OwnershipError, match="a mutable reference is not passed on"):
        future.result()


def test_a_reference_does_not_survive_its_task(store: Store) -> None:
    kept = []
    owned = store.owned_proxy([1])
    with ThreadPoolExecutor(1) as pool:
        submit(pool.submit, args=(kept.append, borrow(owned))).result()
    with pytest.raises(errors.MovedError, match="a reference ends with its task"):
        len(kept[0])


def test_a_pool_of_threads_hands_back_the_owner(store: Store) -> None:
    with ThreadPoolExecutor(1) as pool:
        future = submit(pool.submit, args=(give_back, store.owned_proxy([1])))
        (back,) = future.result()
    del future
    assert back == [1]
    with pytest.raises(errors.OwnershipError):
        pickle.dumps(back)
    drop(back)


def test_an_owner_that_goes_while_it_is_lent_is_reported(
    store: Store, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append(str(report.exc_value)))
    owned = store.owned_proxy([1])
    future = submit(engine.submit, args=(sum, borrow(owned)))
    del owned  # noqa: IOW004
    (report,) = reports
    assert "went out of scope: it is borrowed at" in report
    assert "kept until then" in report
    assert count(store) == 1
    engine.run()
    assert future.result() == 1
    assert count(store) == 0


def test_engines_that_are_polled_and_engines_that_tell_nothing(store: Store) -> None:
    class Polled:
        ended = False

        def done(self) -> bool:
            return self.ended

        def cancelled(self) -> bool:
            return False

        def exception(self) -> None:
            return None

    owned = store.owned_proxy([1])
    future = submit(lambda *args: Polled(), args=(sum, borrow(owned)))
    with pytest.raises(errors.BorrowedError):
        drop(owned)
    future.ended = True
    drop(owned)
    other = store.owned_proxy([1])
    with pytest.raises(TypeError, match="does not tell when its task has ended"):
        submit(lambda *args: object(), args=(sum, borrow(other)))  # noqa: IOW004


def test_an_app_of_an_engine(store: Store, engine: Engine) -> None:
    def app(target: Any) -> Any:
        return engine.submit(sum, target)

    future = submit(app, args=(store.owned_proxy([1, 2]),))
    engine.run()
    assert future.result() == 3
    assert count(store) == 0

    def made(target: Any) -> Any:
        return engine.submit(task(give_back), target)

    made.func = task(give_back)  # type: ignore[attr-defined]
    future = submit(made, args=(store.owned_proxy([1, 2]),))
    engine.run()
    assert future.result() == [[1, 2]]
    del future

    async def coroutine() -> None: ...

    with pytest.raises(TypeError, match="coroutine"):
        task(coroutine)


def test_clones_are_independent(store: Store) -> None:
    owned = store.owned_proxy([1])
    other = clone(owned)
    other.append(2)
    update(other)
    assert owned == [1]
    assert other == [1, 2]
    del owned
    assert extract(borrow(other)) == [1, 2]


def test_owning_what_was_a_plain_proxy(store: Store) -> None:
    plain = store.proxy([1])
    owned = into_owned(plain)
    with pytest.raises(errors.OwnershipError, match="has one already"):
        into_owned(plain)
    wrong = borrow(owned)
    for handle in (owned, wrong):
        with pytest.raises(errors.OwnershipError):
            into_owned(handle)
    del wrong, handle
    drop(owned)
    with pytest.raises(errors.MissingObjectError):
        into_owned(plain)
    for no in ([1], Proxy(list), store.proxy_from_key(store.put(1), evict=True)):
        with pytest.raises(TypeError, match="into_owned takes"):
            into_owned(no)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="borrow takes a handle"):
        borrow(plain)  # type: ignore[arg-type]
    store.clear()


def test_a_serializer_of_its_own(store: Store) -> None:
    owned = store.owned_proxy(
        "a", serializer=str.encode, deserializer=lambda data: bytes(data).decode()
    )
    assert borrow(owned) == "a"
    assert owned == "a"
    with pytest.raises(TypeError, match="serializer, too"):
        update(owned)
    update(owned, serializer=str.encode)
    assert clone(owned) == "a"


def test_an_owner_outlives_its_store(store: Store) -> None:
    with Store("brief", store.connector.from_config(store.connector.config())) as brief:
        owned = brief.owned_proxy([1])
    del owned


def test_leases_are_renewed_while_an_owner_lives(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = []
    monkeypatch.setattr(store.connector, "renew", lambda keys: renewed.extend(keys) or [True])
    owned = store.owned_proxy([1], lease=0.03)
    while len(renewed) < 3:
        time.sleep(0.001)
    assert set(renewed) == {renewal.held()[0].key}
    drop(owned)
    unleased = store.owned_proxy([1], lease=None)
    assert store.connector.stat(renewal.held()[0].key).until is None  # type: ignore[attr-defined]
    drop(unleased)


class Rules(RuleBasedStateMachine):
    """Owner, readers and a writer, against a model that counts."""

    @initialize()
    def begin(self) -> None:
        self.store = Store("model", MemoryConnector(uuid.uuid4().hex))
        self.engine = Engine()
        self.owned: Any = self.store.owned_proxy([0])
        self.value = [0]
        self.readers: list[Any] = []
        self.writer: Any = None
        self.running: list[bool] = []
        self.gone = False

    def expect(self, allowed: bool, action: Any) -> Any:
        if allowed:
            return action()
        with pytest.raises(errors.OwnershipError):
            action()
        return None

    @property
    def reading(self) -> bool:
        return bool(self.readers) or False in self.running

    @property
    def writing(self) -> bool:
        return self.writer is not None or True in self.running

    @rule()
    def borrow(self) -> None:
        reader = self.expect(not self.gone and not self.writing, lambda: borrow(self.owned))
        if reader is not None:
            self.readers.append(reader)

    @rule()
    def mut_borrow(self) -> None:
        free = not (self.gone or self.writing or self.reading)
        self.writer = self.expect(free, lambda: mut_borrow(self.owned)) if free else self.writer
        if not free:
            self.expect(False, lambda: mut_borrow(self.owned))

    @rule(end=st.booleans())
    @precondition(lambda self: self.readers)
    def use_reader(self, end: bool) -> None:
        reader = self.readers.pop()
        assert reader == self.value
        if not end:
            submit(self.engine.submit, args=(sum, reader))
            self.running.append(False)

    @rule(end=st.booleans())
    @precondition(lambda self: self.writer is not None)
    def use_writer(self, end: bool) -> None:
        writer, self.writer = self.writer, None
        if not end:
            submit(self.engine.submit, args=(append, writer, len(self.value)))
            self.running.append(True)

    @rule(cancel=st.booleans())
    @precondition(lambda self: self.running)
    def end_task(self, cancel: bool) -> None:
        wrote = self.running.pop(0)
        if cancel:
            self.engine.calls[0][0].cancel()
        elif wrote:
            self.value = [*self.value, len(self.value)]
        self.engine.run()

    @rule()
    def read(self) -> None:
        # A copy that was fetched stays readable; what is unresolved is fetched only if that is allowed.
        if not (self.gone or self.writing):
            assert self.owned == self.value
        elif self.writing or not is_resolved(self.owned):
            self.expect(False, lambda: len(self.owned))

    @rule()
    def drop(self) -> None:
        free = not (self.gone or self.writing or self.reading)
        self.expect(free, lambda: drop(self.owned))
        self.gone = self.gone or free
        assert len(list(self.store.connector.list())) == (not self.gone)  # type: ignore[attr-defined]

    def teardown(self) -> None:
        while self.running:
            self.end_task(False)
        self.readers.clear()
        self.writer = self.owned = None
        assert list(self.store.connector.list()) == []  # type: ignore[attr-defined]
        self.store.close()


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
