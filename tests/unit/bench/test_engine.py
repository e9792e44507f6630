from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.bench import futures
from isthmus.bench.engine import Engine
from isthmus.bench.filter import ObjectSize
from isthmus.bench.records import TaskRecord
from isthmus.bench.transform.pickle_file import PickleFileTransformer
from isthmus.errors import ClosedError, RemoteError, WaitTimeoutError


class Kept:
    def __init__(self) -> None:
        self.records: list[TaskRecord] = []
        self.closed = False

    def log(self, record: TaskRecord) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def engine(kept: Kept) -> Iterator[Engine]:
    with Engine(ThreadPoolExecutor(2), record_logger=kept) as engine:
        yield engine


def test_a_plain_pool_gets_data_flow(engine: Engine) -> None:
    assert engine.submit(max, engine.submit(abs, -3), [1, 2][0]).result() == 3


def test_the_record_is_there_when_the_result_is(engine: Engine, kept: Kept) -> None:
    for i in range(200):
        future = engine.submit(abs, -i)
        assert future.result() == i
        assert engine.tasks_executed == i + 1
    engine.close()
    assert len(kept.records) == 200
    assert len({r.task_id for r in kept.records}) == 200
    assert kept.closed


def test_times_add_up(engine: Engine, kept: Kept) -> None:
    engine.submit(time.sleep, 0.02).result()
    engine.close()
    (record,) = kept.records
    assert record.function == "time.sleep"
    assert record.execute_s >= 0.02
    assert record.cpu_s < record.execute_s
    assert record.submitted <= record.started <= record.finished
    assert record.overhead_s >= 0


def test_a_closed_engine_refuses(engine: Engine) -> None:
    engine.close()
    engine.close()
    with pytest.raises(ClosedError, match="the engine is closed"):
        engine.submit(abs, 1)


def test_waiting_has_an_end(engine: Engine) -> None:
    gate = threading.Event()
    held = engine.submit(gate.wait)
    quick = engine.submit(abs, -1)
    with pytest.raises(WaitTimeoutError, match=held.task_id):
        held.result(0.01)
    with pytest.raises(TimeoutError):
        list(futures.as_completed([held], timeout=0.01))
    with pytest.raises(TimeoutError):
        next(engine.map(lambda _: gate.wait(), [1], timeout=0.01))
    found = futures.wait([held, quick], return_when=futures.FIRST_COMPLETED)
    assert found.done == {quick}
    assert found.not_done == {held}
    gate.set()
    assert {f.result() for f in futures.as_completed([held, quick])} == {True}


def test_callbacks_get_the_task_future(engine: Engine) -> None:
    called: list[Any] = []
    future = engine.submit(abs, -1)
    future.add_done_callback(called.append)
    engine.close()
    assert called == [future]
    assert "done" in repr(future)


def test_cancelling_reaches_what_depends(engine: Engine, kept: Kept) -> None:
    gate = threading.Event()
    held = [engine.submit(gate.wait) for _ in range(2)]
    first = engine.submit(abs, -1)
    last = engine.submit(abs, engine.submit(abs, [first][0]))
    assert first.cancel()
    assert last.cancelled()
    with pytest.raises(CancelledError):
        last.result()
    gate.set()
    engine.close()
    assert len(kept.records) == engine.tasks_executed == 5
    assert sum(r.error == "CancelledError" for r in kept.records) == 3
    assert all(f.result() for f in held)


def test_an_exception_leaves_nothing_waiting(kept: Kept) -> None:
    gate = threading.Event()
    with (
        pytest.raises(ZeroDivisionError),
        Engine(ThreadPoolExecutor(1), record_logger=kept) as engine,
    ):
        running = engine.submit(gate.wait)
        queued = engine.submit(abs, -1)
        delayed = engine.submit(abs, running)
        threading.Timer(0.05, gate.set).start()
        raise ZeroDivisionError
    assert queued.cancelled()
    assert delayed.cancelled()
    assert kept.closed


def test_leaving_the_interpreter_is_an_error_of_the_task(engine: Engine) -> None:
    error = engine.submit(exit, 0).exception()
    assert isinstance(error, RemoteError)
    assert "SystemExit" in str(error)


def test_results_of_finished_tasks_are_not_kept(engine: Engine) -> None:
    import gc
    import weakref

    class Large:
        pass

    first = engine.submit(Large)
    seen = weakref.ref(first.result())
    second = engine.submit(id, first)
    assert second.result() == id(seen())
    del first
    gc.collect()
    assert seen() is None


def test_data_are_taken_out_of_the_way(tmp_path: Path, kept: Kept) -> None:
    transformer = PickleFileTransformer(tmp_path / "objects")
    with Engine(ThreadPoolExecutor(2), transformer, ObjectSize(1000), kept) as engine:
        large, small = np.arange(1000), np.arange(10)
        first = engine.submit(np.add, large, small[0])
        second = engine.submit(np.concatenate, [first, first, small])
        third = engine.submit(np.sum, second)
        assert len(list((tmp_path / "objects").iterdir())) >= 1
        total = third.result()
        assert total == 2 * large.sum() + small.sum()
        np.testing.assert_array_equal(second.result()[:1000], large)
        assert second.result() is second.result()
    add, concatenate, sum_ = sorted(kept.records, key=lambda r: r.submitted)
    assert add.transformed_bytes > 8000
    assert add.output_bytes > 8000
    assert concatenate.input_bytes == add.output_bytes  # one object, though it is there twice
    assert sum_.input_bytes > 16_000
    assert sum_.output_bytes == 0
    assert add.input_transform_s > 0
    assert add.input_resolve_s > 0
    assert add.result_transform_s > 0
    transformer.clear()
    assert not (tmp_path / "objects").exists()


def test_a_transformer_that_fails_is_told(tmp_path: Path) -> None:
    transformer = PickleFileTransformer(tmp_path)
    with Engine(ThreadPoolExecutor(1), transformer) as engine:
        with pytest.raises(TypeError, match="pickle"):
            engine.submit(abs, threading.Lock())
        error = engine.submit(threading.Lock).exception()
        assert isinstance(error, TypeError)
        gone = engine.submit(list)
        futures.wait([gone])
        transformer.clear()
        with pytest.raises(FileNotFoundError):
            gone.result()


def test_many_threads_share_an_engine(engine: Engine) -> None:
    def work() -> None:
        for i in range(50):
            assert engine.submit(abs, engine.submit(abs, -i)).result() == i

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert engine.tasks_executed == 400
