from __future__ import annotations

import os
import pickle
import uuid

import pytest

from isthmus.connectors.memory import MemoryConnector, MemoryKey
from isthmus.errors import ElsewhereError


@pytest.fixture
def connector() -> MemoryConnector:
    return MemoryConnector(uuid.uuid4().hex)


def test_what_nobody_can_change_is_kept_by_reference(connector: MemoryConnector) -> None:
    data = bytes(100_000)
    assert connector.get(connector.put(data)) is data
    view = connector.get(connector.put([memoryview(data)]))
    assert isinstance(view, memoryview)
    assert view.obj is data


def test_without_a_copy_the_caller_shares(connector: MemoryConnector) -> None:
    data = bytearray(b"abc")
    view = connector.get(connector.put(data, copy=False))
    data[0] = 0
    assert isinstance(view, memoryview)
    assert view == b"\0bc"
    with pytest.raises(TypeError):
        view[0] = 1


def test_names_are_apart(connector: MemoryConnector) -> None:
    other = MemoryConnector(uuid.uuid4().hex)
    key = connector.put(b"x")
    assert other.get(key) is None
    assert MemoryConnector(connector.config()["name"]).get(key) == b"x"


def test_a_child_sees_what_was_there_when_it_was_forked(connector: MemoryConnector) -> None:
    kept, gone = connector.put(b"kept"), connector.put(b"gone")
    connector.evict(gone)
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            later = MemoryKey(*eval(os.read(ours, 1000)))
            assert connector.get(kept) == b"kept"
            assert connector.get(gone) is None
            with pytest.raises(ElsewhereError, match=str(os.getppid())):
                connector.get(later)
            assert connector.put(b"own").process != kept.process
            code = 0
        finally:
            os._exit(code)
    os.write(theirs, repr(tuple(connector.put(b"later"))).encode())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(ours)
    os.close(theirs)


def test_a_made_up_key_says_what_to_use_instead(connector: MemoryConnector) -> None:
    with pytest.raises(ElsewhereError, match=r"process 123, .*shm connector"):
        connector.get(MemoryKey("123-00000000", 0))


def test_it_pickles_as_its_configuration(connector: MemoryConnector) -> None:
    with pickle.loads(pickle.dumps(connector)) as again:
        key = again.put(b"shared, not copied")
    assert connector.exists(key)
