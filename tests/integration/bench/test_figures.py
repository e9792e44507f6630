"""The dissertation's figures 2.3, 2.4 and 2.5, under isthmus's names."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from isthmus.bench.records import read_records


def run(
    *command: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
    )


FIGURE_2_3 = """
import sys
from pathlib import Path
from pydantic import Field
from isthmus.bench.cli import main
from isthmus.bench.config import AppConfig
from isthmus.bench.engine import Engine
from isthmus.bench.plugins import register

@register('app')
class FooAppConfig(AppConfig):
    name: str = 'foo'
    sleep: float = Field(description='seconds that a task sleeps')
    count: int = Field(1, description='number of tasks')

    def get_app(self) -> 'FooApp':
        return FooApp(self.sleep, self.count)

class FooApp:
    def __init__(self, sleep: float, count: int) -> None:
        self.sleep, self.count = sleep, count

    def run(self, engine: Engine, run_dir: Path) -> None:
        import time
        list(engine.map(time.sleep, [self.sleep] * self.count))
        (run_dir / 'closed').touch()

    def close(self) -> None:
        print('closed')

if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
"""


def test_figure_2_3_an_application_of_ones_own(tmp_path: Path) -> None:
    script = tmp_path / "foo.py"
    script.write_text(FIGURE_2_3)
    done = run(
        str(script), "run", "--app", "foo", "--app.sleep", "0", "--app.count=3",
        "--engine.executor", "thread", "--run.dir_format", "{name}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "closed" in done.stdout
    assert "not checked by the application" in done.stdout
    assert len(list(read_records(tmp_path / "foo" / "tasks.jsonl"))) == 3
    helped = run(str(script), "run", "--app", "foo", "--help", cwd=tmp_path)
    assert "seconds that a task sleeps (required)" in helped.stdout
    assert "number of tasks (default: 1)" in helped.stdout


FIGURE_2_4 = """
[app]
name = "cholesky"
matrix_size = 100
block_size = 25

[engine]
task_record_file_name = "tasks.jsonl"

[engine.executor]
name = "process-pool"
max_processes = 10

[run]
dir_format = "runs/{name}_{executor}_{timestamp}"

[logging]
file_level = "WARNING"
file_name = "log.txt"
level = "INFO"
"""


def test_figure_2_4_a_configuration_and_the_run_directory(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(FIGURE_2_4)
    (tmp_path / "fewer.toml").write_text("[engine.executor]\nmax_processes = 1\n[app]\nseed = 7\n")
    done = run(
        "-m", "isthmus.bench", "run", "--config", "config.toml", "fewer.toml", "--app.block-size", "30",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert run_dir.name.startswith("cholesky_process-pool_")
    assert {p.name for p in run_dir.iterdir()} == {
        "config.toml", "environment.toml", "log.txt", "tasks.jsonl",
    }  # fmt: skip
    assert (run_dir / "log.txt").read_text() == ""  # nothing as grave as a warning
    config = (run_dir / "config.toml").read_text()
    for line in ("block_size = 30", "max_processes = 1", "seed = 7", 'file_level = "WARNING"'):
        assert line in config
    assert len(list(read_records(run_dir / "tasks.jsonl"))) == 20  # 4 x 4 tiles, the last of 10

    again = run(
        "-m", "isthmus.bench", "run", "--config", str(run_dir / "config.toml"), cwd=tmp_path
    )
    assert again.returncode == 0, again.stderr
    second = next(p for p in (tmp_path / "runs").iterdir() if p != run_dir)
    assert (second / "config.toml").read_text() == config


FIGURE_2_5 = """
import contextlib
import pathlib
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime

from isthmus.bench.apps.cholesky import CholeskyApp
from isthmus.bench.engine import Engine
from isthmus.bench.executor import FutureDependencyExecutor
from isthmus.bench.logging import init_logging


def main() -> int:
    init_logging()

    app = CholeskyApp(matrix_size=100, block_size=25)
    executor = FutureDependencyExecutor(
        ProcessPoolExecutor(max_workers=4)
    )
    timestamp = datetime.now().strftime('%Y-%m-%d-%H-%M-%S')
    run_dir = pathlib.Path.cwd() / 'runs' / timestamp

    with contextlib.closing(app), Engine(executor) as engine:
        app.run(engine, run_dir)

    return 0


if __name__ == '__main__':
    raise SystemExit(main())
"""


def test_figure_2_5_the_library(tmp_path: Path) -> None:
    script = tmp_path / "figure.py"
    script.write_text(textwrap.dedent(FIGURE_2_5))
    done = run(str(script), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "checked: ‖A-LLᵀ‖/‖A‖" in done.stderr
