"""The shipped suite against Parsl's executors, and what is Parsl's alone."""

from __future__ import annotations

import pytest

from isthmus.bench.executor.configs import ParslHTEXConfig, ParslThreadConfig
from isthmus.testing.executor_contract import ExecutorContract

pytest.importorskip("parsl", reason="needs Parsl: pip install 'isthmus[parsl]'")

from isthmus.bench.executor.parsl import ParslExecutor

pytestmark = pytest.mark.extras


class TestParslThread(ExecutorContract):
    crosses_processes = False

    @pytest.fixture
    def executor(self) -> ParslExecutor:
        return ParslThreadConfig(max_threads=2).get_executor()


class TestParslHTEX(ExecutorContract):
    @pytest.fixture
    def executor(self) -> ParslExecutor:
        return ParslHTEXConfig(workers=2).get_executor()
