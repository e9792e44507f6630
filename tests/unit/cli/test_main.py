"""The command itself: dispatch, help, errors, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import isthmus
from isthmus.cli import COMMANDS, main


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "isthmus", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert f"  {name}" in shown
        assert line in shown


def test_help_imports_no_command() -> None:
    code = "import sys; from isthmus.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded - set(bare.stdout.split()) & loaded >= {"isthmus", "isthmus.cli"}
    mine = {name for name in loaded if name.startswith("isthmus")}
    assert mine == {"isthmus", "isthmus.cli"}
    assert not loaded & {"argparse", "rich", "numpy", "msgspec", "asyncio", "importlib.metadata"}


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option]) == 0
    assert capsys.readouterr().out == f"isthmus {isthmus.__version__}\n"


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stroe"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("isthmus: error: unknown command 'stroe'; did you mean 'store'?")
    assert error.count("\n") == 1


def test_unknown_option_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "doctor"]) == 2
    assert "--json" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo", "doctor", "store", "lint"])
def test_wrong_arguments_are_one_line_and_code_2(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--no-such-option"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"isthmus: error: isthmus {name}")
    assert f"see `isthmus {name}" in error
    assert error.count("\n") == 1


def test_traceback_on_request() -> None:
    for done in (
        run("doctor", "--wrong", "--traceback"),
        run("--traceback", "doctor", "--wrong"),
        run("doctor", "--wrong", ISTHMUS_TRACEBACK="1"),
    ):
        assert done.returncode == 1  # the interpreter's own code for an exception
        assert "Traceback" in done.stderr
        assert "SpecError" in done.stderr
    assert "Traceback" not in run("doctor", "--wrong", ISTHMUS_TRACEBACK="0").stderr


class Command:
    """Stands in for a sub-command's module: its `main` raises, prints, or notes its arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException | None = None) -> None:
        self.error = error
        self.argv: list[str] = []
        monkeypatch.setitem(sys.modules, "isthmus_test_command", self)  # type: ignore[arg-type]
        monkeypatch.setitem(COMMANDS, "act", ("isthmus_test_command", "for tests"))

    def main(self, argv: list[str]) -> int:
        self.argv = argv
        if self.error is not None:
            raise self.error
        return 7


def test_arguments_and_exit_code_go_through(monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(monkeypatch)
    assert main(["act", "--traceback", "--app", "x", "--", "--traceback"]) == 7
    assert command.argv == ["--app", "x", "--", "--traceback"]


def test_failures_are_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from isthmus.errors import BrokenError

    Command(monkeypatch, BrokenError("the channel", "two\nlines"))
    assert main(["act"]) == 1
    assert capsys.readouterr().err == "isthmus: error: the channel: two lines\n"
    Command(monkeypatch, PermissionError(13, "Permission denied", "/nowhere/report.html"))
    assert main(["act"]) == 1
    assert "/nowhere/report.html" in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    Command(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main(["act"])


def test_a_broken_pipe_that_is_not_stdout_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    Command(monkeypatch, BrokenPipeError(32, "Broken pipe"))
    with pytest.raises(BrokenPipeError):
        main(["act"])


def test_interrupt_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Command(monkeypatch, KeyboardInterrupt())
    assert main(["act"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_goes_away_is_quiet() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "isthmus", "doctor"],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    assert done.returncode == 141
    assert done.stderr == ""


def test_a_terminal_of_few_letters_loses_no_result() -> None:
    done = run("doctor", PYTHONIOENCODING="ascii")
    assert done.stderr == ""
    assert "\\u2713 python" in done.stdout  # a check mark


def test_python_dash_m() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"isthmus {isthmus.__version__}\n")


def test_bench_is_dispatched(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    assert "isthmus bench" in capsys.readouterr().out
