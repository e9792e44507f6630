"""Every test is checked for leaks; `leaks_allowed` names what a library keeps for its whole life."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus.connectors.shm.area import root
from isthmus.testing.certificates import Authority
from isthmus.testing.leaks import no_leaks


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaks_allowed(*parts): names that a library keeps")
    # Shared memory of their own: tests neither see nor clean up what the user, or another run, has there.
    os.environ["ISTHMUS_SHM_DIR"] = tempfile.mkdtemp(prefix="isthmus-tests-", dir=root())

    # Likewise for the sockets and the secret key of ZeroMQ servers.
    os.environ["ISTHMUS_ZMQ_DIR"] = tempfile.mkdtemp(prefix="isthmus-zmq-")
    os.environ["ISTHMUS_CONFIG_DIR"] = os.environ["ISTHMUS_ZMQ_DIR"]


def pytest_collection_finish() -> None:
    # Modules stay: without them, looking for garbage after each test takes a tenth of the time.
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ.pop("ISTHMUS_ZMQ_DIR"), ignore_errors=True)
    shutil.rmtree(os.environ.pop("ISTHMUS_SHM_DIR"), ignore_errors=True)


@pytest.fixture(autouse=True)
def leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    allowed: list[str] = []
    for marker in request.node.iter_markers("leaks_allowed"):
        allowed.extend(marker.args)
    with no_leaks(ignore=allowed):
        yield


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def socket_folder() -> Iterator[Path]:
    # Not pytest's folder: the path of a unix socket may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="isthmus-net-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def zmq_collector() -> None:
    """Have pyzmq start what it keeps for as long as the process lives: a thread, and its sockets."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as two:
        one.bind("inproc://collector")
        two.connect("inproc://collector")
        two.copy_threshold = 0
        two.send(b"x", copy=False)
        one.recv()
