"""Parsl's high-throughput executor on this host, such that nothing outlives it and no death goes unseen.

Imports Parsl: only :mod:`isthmus.bench.executor.parsl` imports this module, when such an executor is made.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import InvalidStateError
from typing import TYPE_CHECKING, Any

from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD, HighThroughputExecutor
from parsl.jobs.states import JobState, JobStatus
from parsl.launchers import SimpleLauncher
from parsl.providers.base import ExecutionProvider

from isthmus.bench.executor.native_threads import environment
from isthmus.bench.executor.parsl_call import execute_packed, run_packed
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

__all__ = ["ChildProvider", "WatchedHTEX"]

_PROGRAM = [sys.executable, "-m", "isthmus.bench.executor.parsl_process"]
_POOL = "parsl.executors.high_throughput.process_worker_pool"
_INTERCHANGE = "parsl.executors.high_throughput.interchange"
# Who unpacks in the worker. Parsl's own way pickles in Python, and compiles a program for each task.
_CONTEXT = {"task_executor": {"f": f"{execute_packed.__module__}.{execute_packed.__name__}"}}
_SHOWN = 400  # characters of what a worker pool said last
_GRACE_SECONDS = 5.0


class ChildProvider(ExecutionProvider):  # type: ignore[misc]
    """Runs blocks of workers as children of this process, each in a process group of its own.

    Parsl's own provider for one host starts them in the background of a shell, polls files for how they
    ended, asks ``ps`` whom to end, and waits for nobody.

    Args:
        workers: of each block.
        native_threads: threads that numeric libraries may start in a worker; 0 leaves them alone.
    """

    label = "children"
    status_polling_interval = 1  # seconds

    def __init__(self, workers: int, native_threads: int) -> None:
        self.nodes_per_block = 1
        # Parsl would start the first block only at the second look of its poller, seconds later.
        self.init_blocks = self.min_blocks = 0
        self.max_blocks = 1
        self.parallelism = 1.0
        self.cores_per_node = self.mem_per_node = None
        self.launcher = SimpleLauncher()
        self.script_dir = ""
        self.resources: dict[object, subprocess.Popen[bytes]] = {}
        self._environment = _environment(workers, native_threads)

    def submit(self, command: str, tasks_per_node: int, job_name: str = "block") -> str:
        """Start a block; what it says goes to a file beside Parsl's scripts."""
        with open(self._said(job_name), "wb") as said:
            process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=self._environment,
                process_group=0,
            )
        self.resources[job_name] = process
        return job_name

    def status(self, job_ids: Sequence[object]) -> list[JobStatus]:
        """Look whether the blocks run."""
        return [
            JobStatus(JobState.RUNNING if self.resources[job].poll() is None else JobState.FAILED)
            for job in job_ids
        ]

    def cancel(self, job_ids: Sequence[object]) -> list[bool]:
        """End blocks with all their processes, and wait until they are gone."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            running = [job for job in job_ids if _signalled(self.resources[job], sign)]
            deadline = time.monotonic() + _GRACE_SECONDS
            while running and time.monotonic() < deadline:
                time.sleep(0.005)
                running = [job for job in running if _anybody(self.resources[job])]
            if not running:
                break
        return [True] * len(job_ids)

    def kill(self) -> None:
        """Kill every block at once."""
        for process in self.resources.values():
            _signalled(process, signal.SIGKILL)

    def ended(self) -> str:
        """Say how a block ended that should not have; empty if all run."""
        for job, process in self.resources.items():
            if process.poll() is not None:
                with contextlib.suppress(OSError), open(self._said(job), "rb") as said:
                    said.seek(max(0, said.seek(0, os.SEEK_END) - _SHOWN))
                    text = said.read().decode(errors="replace").strip()
                status = process.returncode
                return f"its worker pool ended with status {status}: {text or 'it said nothing'}"
        return ""

    def _said(self, job: object) -> str:
        return os.path.join(self.script_dir, f"{job}.out")


def _signalled(process: subprocess.Popen[bytes], sign: int) -> bool:
    """Signal a block's group; return whether there is anybody in it."""
    process.poll()  # an ended leader that nobody asked about would count as there
    try:
        os.killpg(process.pid, sign)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of the dead
        return False
    return True


def _anybody(process: subprocess.Popen[bytes]) -> bool:
    """Return whether somebody in a block's group is alive.

    Workers whose pool died first are dead, but there, until init looks for such: seconds in a container.
    """
    if not _signalled(process, 0):
        return False
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:  # not Linux
        return True
    for number in numbers:
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", "rb") as file:
            state, _, group = file.read().rpartition(b")")[2].split()[:3]
            if int(group) == process.pid and state not in b"ZX":
                return True
    return False


def _environment(workers: int, native_threads: int) -> dict[str, str]:
    """Return the environment of workers."""
    found = {
        **os.environ,
        "PARSL_CORES": str(workers),
    }  # as many as were asked for, whatever the cores
    # What this process can import, they can: as spawned processes of multiprocessing.
    found["PYTHONPATH"] = os.pathsep.join(os.path.abspath(p) for p in sys.path)
    if native_threads:
        found.update(environment(native_threads))
    return found


class WatchedHTEX(HighThroughputExecutor):  # type: ignore[misc]
    """Notices what Parsl would wait for in vain: an interchange or a worker pool that is gone.

    It asks the interchange nothing while it runs or ends: a question to a dead one has no timeout.

    Args:
        provider: of its blocks.
        options: as Parsl's.
    """

    def __init__(self, provider: ChildProvider, **options: Any) -> None:
        pool = shlex.join([*_PROGRAM, _POOL])
        super().__init__(
            provider=provider,
            launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", pool),
            interchange_launch_cmd=[*_PROGRAM, _INTERCHANGE],
            block_error_handler=False,
            **options,
        )

    def submit(
        self,
        func: Callable[..., Any],
        resource_specification: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> Future[Any]:
        """Send a packed call with its packed inputs as they are; any other as Parsl does."""
        if func is run_packed:
            return self.submit_payload(_CONTEXT, pickle.dumps(args))  # type: ignore[no-any-return]
        return super().submit(func, resource_specification, *args, **kwargs)  # type: ignore[no-any-return]

    def status(self) -> dict[str, JobStatus]:
        """Return the state of each block."""
        blocks = list(self.blocks_to_job_id)
        return self._make_status_dict(  # type: ignore[no-any-return]
            blocks, self.provider.status([self.blocks_to_job_id[b] for b in blocks])
        )

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """End blocks; Parsl asks for it only when all is over."""
        chosen = list(self.blocks_to_job_id)[:blocks]
        self.provider.cancel([self.blocks_to_job_id[b] for b in chosen])
        return chosen

    def poll_facade(self) -> None:
        """Fail every task if the interchange or the workers are gone; called every second."""
        if self.bad_state_is_set:
            self._fail_all()  # also what was submitted just as it happened
            return
        interchange = self.interchange_proc
        if interchange is not None and (code := interchange.poll()) is not None:
            self.set_bad_state_and_fail_all(
                BrokenError("Parsl", f"its interchange ended with status {code}")
            )
        elif how := self.provider.ended():
            self.set_bad_state_and_fail_all(BrokenError("Parsl", how))

    def set_bad_state_and_fail_all(self, exception: Exception) -> None:
        """Refuse tasks from now on, and fail those there are, whoever else ends them just now."""
        if not isinstance(exception, BrokenError):  # the interchange's own, of another Python say
            exception = BrokenError("Parsl", exception)
        self._executor_exception = exception
        self._executor_bad_state.set()
        self._fail_all()

    def _fail_all(self) -> None:
        while self.tasks:
            with contextlib.suppress(KeyError, InvalidStateError):
                self.tasks.popitem()[1].set_exception(self._executor_exception)
