"""What crosses between a Parsl client and its workers; Parsl itself is not needed."""

from __future__ import annotations

import threading
from typing import Any

from isthmus.bench.executor.parsl_call import Value, pack

_unpacking = threading.Barrier(2)


def _meet(parts: list[int]) -> list[int]:
    try:
        _unpacking.wait(0.5)
    except threading.BrokenBarrierError:
        pass  # the other does not unpack, as it should be
    return parts


class Slow:
    """Unpacked when two threads do it at once, or after a while."""

    def __reduce__(self) -> Any:
        return _meet, ([1, 2],)


def test_threads_that_ask_at_once_are_given_the_same_result() -> None:
    value = Value(pack(Slow()))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(value.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == [1, 2]
    assert found[0] is found[1]
    assert value.packed() == pack([1, 2])
