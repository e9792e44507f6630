"""The command: what it refuses, and how it ends when things go wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.bench.cli import main
from isthmus.bench.records import read_records

CHOLESKY = ["run", "--app", "cholesky", "--app.matrix-size", "20", "--app.block-size", "7"]
PORTS = [
    "run",
    "--app",
    "mapreduce",
    "--engine.executor",
    "parsl-htex",
    "--engine.executor.worker-ports",
]
THREADS = ["--engine.executor", "thread", "--engine.executor.max-threads", "2"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert not Path("runs").exists()
    return err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["run"], ["--app NAME", "cholesky, mapreduce"]),
        (["rum"], ["did you mean 'run'"]),
        (["run", "--app", "cholesky"], ["app.matrix_size is missing", "--app.matrix-size"]),
        (["run", "--app", "choleksy"], ["did you mean 'cholesky'"]),
        ([*CHOLESKY, "--engine.executor", "proces"], ["did you mean 'process'"]),
        ([*CHOLESKY, "--app.matrix-sise", "3"], ["--app.matrix-sise", "did you mean --app.matrix-size"]),
        (["run", "--app.matrix-size", "3"], ["name the application first"]),
        ([*PORTS, "54000", "many"], ["--engine.executor.worker-ports", "integer", "'many'"]),
        ([*PORTS, "54000"], ["--engine.executor.worker-ports"]),
        ([*PORTS, "54100", "54000"], ["first port must be below the last"]),
        ([*CHOLESKY, "--app.seed", "many"], ["--app.seed", "integer", "'many'"]),
        ([*CHOLESKY, "--app.seed", "-1"], ["app.seed", "greater than or equal to 0"]),
        ([*CHOLESKY, "--logging.level", "LOUD"], ["--logging.level", "'LOUD'"]),
        ([*CHOLESKY, "stray"], ["unexpected 'stray'"]),
        ([*CHOLESKY, "--config", "absent.toml"], ["absent.toml", "No such file"]),
        ([*CHOLESKY, "--run.dir-format", "{nme}"], ["run.dir_format", "nme", "{name}"]),
        (
            [*CHOLESKY, "--engine.filter", "object-size", "--engine.filter.min-size=-3"],
            ["engine.filter.min_size", "-3"],
        ),
        (
            [
                *CHOLESKY, "--engine.filter", "pickle-size",
                "--engine.filter.min-size", "9", "--engine.filter.max-size", "3",
            ],
            ["engine.filter", "max_size 3 is less than min_size 9"],
        ),
    ],
)  # fmt: skip
def test_wrong_options(
    argv: list[str], says: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(capsys, *argv)
    for text in says:
        assert text in error


def test_without_pydantic_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert main(CHOLESKY) == 1
    assert "isthmus[bench]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[app]\nname = 'cholesky'\nmatrix_size = '3'", ["app.matrix_size", "integer", "'3'"]),
        ("[app]\nname = 'cholesky'\nmatrix_sise = 3", ["app.matrix_sise", "did you mean 'matrix_size'"]),
        ("[app]\nname = 'lu'", ["unknown app 'lu'"]),
        ("[app]\nname = 3", ["app.name must be a string"]),
        ("app = 'cholesky'", ["app must be a table"]),
        ("[ap]\nname = 'x'", ["no such section", "did you mean 'app'"]),
        ("[engine]\ntask_record_file = 'x'", ["task_record_file", "did you mean 'task_record_file_name'"]),
        ("[engine]\ntask_record_file_name = 3", ["engine.task_record_file_name", "string"]),
        ("[engine.transformer]\nname='proxy'\n[engine.transformer.connector]\nkin=1",
         ["engine.transformer.connector.kin", "did you mean 'kind'"]),
        ("[logging]\nlevel = 'LOUD'", ["logging.level", "'LOUD'"]),
        ("not toml", ["is not TOML"]),
    ],
)  # fmt: skip
def test_wrong_files_name_the_file_and_the_field(
    toml: str, says: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "bad.toml").write_text(toml)
    argv = ["run", "--config", "bad.toml"]
    error = refused(capsys, *argv, *([] if "app" in toml[:5] else CHOLESKY[1:]))
    assert "bad.toml" in error
    for text in says:
        assert text in error


def test_another_plugin_on_the_command_line_leaves_the_fields_of_the_files(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "a.toml").write_text('[engine.executor]\nname = "process"\nstart_method = "fork"\n')
    assert main([*CHOLESKY, *THREADS, "--config", "a.toml", "--run.dir-format", "one"]) == 0
    assert "verified  ‖A-LLᵀ‖/‖A‖" in capsys.readouterr().out
    assert "start_method" not in Path("one/config.toml").read_text()


def test_transformer_and_filter_are_recorded(here: Path) -> None:
    extra = ["--engine.transformer", "pickle-file", "--engine.filter", "object-type"]
    types = ["--engine.filter.types", "ndarray", "list"]
    assert main([*CHOLESKY, *THREADS, *extra, *types, "--run.dir-format", "one"]) == 0
    records = list(read_records("one/tasks.jsonl"))
    assert len(records) == 10
    assert all(r.output_bytes > 100 and r.input_bytes > 100 for r in records)
    assert not Path("one/objects").exists()


def test_an_existing_run_directory_is_left_alone(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "taken").mkdir()
    assert main([*CHOLESKY, "--run.dir-format", "taken"]) == 2
    assert "taken exists" in capsys.readouterr().err
    assert list((here / "taken").iterdir()) == []


def test_a_run_directory_that_cannot_be_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").write_text("")  # root may write anywhere; nobody makes a folder in a file
    assert main([*CHOLESKY, "--run.dir-format", "file/run"]) == 1
    assert "file" in capsys.readouterr().err


def test_an_application_that_fails_is_told_and_recorded(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    locked = here / "texts"
    locked.mkdir()
    (locked / "gone.txt").symlink_to(here / "nowhere")
    argv = ["run", "--app", "mapreduce", "--app.paths", str(locked), *THREADS]
    assert main([*argv, "--run.dir-format", "one"]) == 1
    assert "no file matches" in capsys.readouterr().err
    assert "no file matches" in Path("one/log.txt").read_text()


def test_help_is_static_and_the_list_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; from isthmus.bench.cli import main; main(['--help']); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pydantic", "numpy", "argparse", "concurrent.futures"} & set(shown.stdout.split())
    assert main(["list"]) == 0
    listing = capsys.readouterr().out
    for name in ("cholesky", "dask", "proxystore", "pickle-size", "json"):
        assert name in listing


def test_what_is_not_installed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert main(["run", "--app", "cholesky"]) == 1
    error = capsys.readouterr().err
    assert error == (
        "isthmus bench: error: isthmus bench run needs 'pydantic': pip install 'isthmus[bench]'\n"
    )


SLEEPER = """
import os, sys, time
from isthmus.bench.cli import main
from isthmus.bench.config import AppConfig
from isthmus.bench.plugins import register
import isthmus.testing.executor_contract as tasks

@register('app')
class SleeperConfig(AppConfig):
    name: str = 'sleeper'
    def get_app(self):
        return Sleeper()

class Sleeper:
    def run(self, engine, run_dir):
        engine.submit(tasks.identity, 1).result()
        mode = os.environ['MODE']
        if mode == 'die':
            engine.submit(tasks.die).result()
        if mode == 'fail':
            engine.submit(tasks.identity, engine.submit(tasks.fail, 'in a task')).result()
        first = engine.submit(tasks.hold, str(run_dir / 'never'), str(run_dir / 'started'))
        last = engine.submit(tasks.identity, first)
        if mode == 'wait':
            last.result()
    def close(self):
        print('closed', flush=True)

if __name__ == '__main__':
    sys.exit(main(['run', '--app', 'sleeper', *sys.argv[1:], '--run.dir-format', 'one']))
"""


def sleeper(here: Path, mode: str, *argv: str) -> subprocess.Popen[str]:
    (here / "sleeper.py").write_text(SLEEPER)
    return subprocess.Popen(
        [sys.executable, "sleeper.py", *argv],
        env={**os.environ, "MODE": mode},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def nobody_left(session: int) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("mode", "executor"),
    [("wait", "process"), ("wait", "dask"), ("wait", "thread"), ("close", "process")],
)
def test_ctrl_c_ends_a_run_that_waits(here: Path, mode: str, executor: str) -> None:
    with sleeper(here, mode, "--engine.executor", executor) as child:
        wait_for(here / "one/started")
        os.kill(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=50)
    assert child.returncode == 130, err
    assert "closed" in out
    assert "interrupted" in err
    assert nobody_left(child.pid)
    assert any(r.success for r in read_records(here / "one/tasks.jsonl"))


def test_a_killed_run_leaves_no_worker_and_whole_records(here: Path) -> None:
    with sleeper(here, "wait", "--engine.executor", "process") as child:
        wait_for(here / "one/started")
        time.sleep(0.3)  # records may wait a tenth of a second
        child.kill()
    assert nobody_left(child.pid)
    assert [r.success for r in read_records(here / "one/tasks.jsonl")] == [True]


def test_a_killed_worker_fails_the_run(here: Path) -> None:
    with sleeper(here, "die", "--engine.executor", "process") as child:
        out, err = child.communicate(timeout=50)
    assert child.returncode == 1
    assert "BrokenProcessPool" in err
    assert "closed" in out
    assert nobody_left(child.pid)
    assert [r.success for r in read_records(here / "one/tasks.jsonl")] == [True, False]


def test_a_failed_task_fails_the_run(here: Path) -> None:
    with sleeper(here, "fail", "--engine.executor", "process") as child:
        _, err = child.communicate(timeout=50)
    assert child.returncode == 1
    assert "ValueError: in a task" in err
    assert nobody_left(child.pid)
