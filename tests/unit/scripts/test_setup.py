"""`scripts/setup` where it may install nothing: it names the packages, all of them, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[3] / "scripts" / "setup"
OLD = '#!/bin/sh\ncase "$1" in -V) echo "Python 3.10.1";; *) exit 1;; esac\n'
BARE = '#!/bin/sh\ncase "$*" in *ensurepip*|*Python.h*) exit 1;; esac\n'  # and new enough


def setup(folder: Path, python: str | None, **variables: str) -> subprocess.CompletedProcess[str]:
    programs = {"id": "#!/bin/sh\necho 1000\n"}
    if python:
        programs["python3"] = python
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for tool in ("bash", "dirname"):
        os.symlink(shutil.which(tool) or tool, folder / tool)
    return subprocess.run(
        [folder / "bash", SETUP, folder / "venv"],
        env={"PATH": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("python", "packages"),
    [
        (None, "python3 python3-venv python3-dev gcc libc6-dev"),
        (OLD, "python3.11 python3.11-venv python3.11-dev gcc libc6-dev"),
        (BARE, "python3-venv python3-dev gcc libc6-dev"),
    ],
    ids=["no python", "an old python", "a bare python"],
)
def test_missing_packages_are_named(tmp_path: Path, python: str | None, packages: str) -> None:
    done = setup(tmp_path, python)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"apt-get install -y --no-install-recommends {packages}"
    )


def test_a_chosen_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    done = setup(tmp_path, OLD, PYTHON="python3")
    assert done.returncode == 1
    assert "PYTHON=python3 is Python 3.10.1" in done.stderr
