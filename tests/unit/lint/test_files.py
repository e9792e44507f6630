"""Which files are checked, how they are read, what is suppressed, and how findings are shown."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.cli import main
from isthmus.lint import CODES, lint_paths, lint_source

BAD = "from isthmus.store import drop\np = s.owned_proxy(1)\ndrop(p)\nprint(p)\n"


def write(folder: Path, *names: str, text: str = BAD) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found_in(*paths: Path) -> list[str]:
    return [Path(f.path).name for f in lint_paths([str(path) for path in paths])]


def test_folders_are_searched_and_what_is_not_source_is_skipped(tmp_path: Path) -> None:
    write(
        tmp_path, "a.py", "b/c.py", "b/.hidden.py", ".git/d.py", "b/notes.txt", "__pycache__/e.py"
    )
    write(tmp_path, "env/lib/f.py", "env/pyvenv.cfg", "node_modules/g.py")
    assert found_in(tmp_path) == ["a.py", "c.py"]
    assert found_in(tmp_path / "b" / "notes.txt", tmp_path / "b" / ".hidden.py") == [
        "notes.txt",
        ".hidden.py",
    ]


def test_a_file_is_checked_once_and_loops_of_links_end(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "b.py").symlink_to(tmp_path / "a.py")
    assert found_in(tmp_path, tmp_path / "a.py", tmp_path / "loop") == ["a.py"]


def test_what_cannot_be_read_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself.py").symlink_to(tmp_path / "itself.py")
    os.mkfifo(tmp_path / "pipe.py")
    found = list(lint_paths([str(tmp_path)]))
    assert [(Path(f.path).name, f.code) for f in found] == [
        ("gone.py", "IOW000"),
        ("itself.py", "IOW000"),
    ]
    assert "No such file" in found[0].message
    (pipe,) = lint_paths([str(tmp_path / "pipe.py")])
    assert (pipe.code, "no regular file" in pipe.message) == ("IOW000", True)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_is_a_finding(tmp_path: Path) -> None:
    write(tmp_path, "a.py", "b/c.py")
    (tmp_path / "a.py").chmod(0)
    (tmp_path / "b").chmod(0)
    try:
        found = list(lint_paths([str(tmp_path)]))
    finally:
        (tmp_path / "b").chmod(0o700)
    assert sorted((Path(f.path).name, f.code) for f in found) == [
        ("a.py", "IOW000"),
        ("b", "IOW000"),
    ]


@pytest.mark.parametrize(
    ("source", "line", "message"),
    [
        (b"x = 1\ny = (\n", 2, "cannot be parsed"),
        (b"x = '\xff'\n", 1, "cannot be "),
        (b"# coding: no-such\n", 1, "cannot be parsed: unknown encoding"),
        (b"# coding: latin-1\nx = '\xff\n", 2, "cannot be parsed"),
        (b"x = 1\0\n", 1, "cannot be "),
        (b"x = " + b"(" * 5000 + b")" * 5000, 1, "cannot be "),
        (b"owned_proxy = " + b"-" * 50_000 + b"1", 1, "cannot be "),
        (b"owned_proxy" + b".x" * 3000, 1, "cannot be followed"),
    ],
)
def test_what_cannot_be_parsed_is_a_finding(source: bytes, line: int, message: str) -> None:
    (found,) = lint_source(source)
    assert (found.code, found.line, message in found.message) == ("IOW000", line, True), found


def test_encodings_line_ends_and_empty_files() -> None:
    assert lint_source(b"") == []
    assert lint_source("\ufeff# nothing\n".encode()) == []
    for source in (
        BAD.encode("utf-8-sig"),
        BAD.replace("\n", "\r\n").encode(),
        b"# coding: latin-1\n" + BAD.encode() + b"# \xff\n",
        BAD.replace("\n", "\r").encode(),
    ):
        assert [f.code for f in lint_source(source)] == ["IOW001"]
    assert lint_source("x = '\\d'\n") == []  # a warning of the parser's, which is not ours


@pytest.mark.parametrize(
    "comment",
    ["# noqa", "# NOQA: IOW001", "# noqa:E1,IOW001", "# noqa: IOW", "# why # noqa : IOW001 x"],
)
def test_comments_suppress(comment: str) -> None:
    assert lint_source(BAD.replace("print(p)", f"print(p)  {comment}")) == []
    assert lint_source(BAD.replace("print(p)", f"print(  {comment}\n    p)"))
    spread = BAD.replace("print(p)", f"x = borrow(\n    p\n)  {comment}")
    assert lint_source(spread.replace("import drop", "import drop, borrow")) == []


@pytest.mark.parametrize("comment", ["# noqa: E501", "# noqa: IOW002", "# noqaX", "# no qa"])
def test_other_comments_do_not(comment: str) -> None:
    assert len(lint_source(BAD.replace("print(p)", f"print(p)  {comment}"))) == 1


def test_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.py")
    path = tmp_path / "a.py"
    assert main(["lint", str(path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == (
        f"{path}:4:7: IOW001 'p' is used after it was dropped\n    {path}:3:6: 'p' was dropped here\n"
    ).replace(":3:6:", ":3:1:")
    assert shown.err == "1 finding in 1 file\n"


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.py")
    write(tmp_path, "b.py", text="x = (\n")
    assert main(["lint", "--format", "json", str(tmp_path)]) == 1
    one, other = json.loads(capsys.readouterr().out)
    assert one == {
        "path": str(tmp_path / "a.py"),
        "line": 4,
        "column": 7,
        "code": "IOW001",
        "message": "'p' is used after it was dropped",
        "earlier": {"line": 3, "column": 1, "text": "'p' was dropped here"},
    }
    assert (other["code"], other["earlier"]) == ("IOW000", None)


def test_github(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a,100%.py")
    assert main(["lint", "--format", "github", str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"::error file={tmp_path}/a%2C100%25.py,line=4,col=7,title=IOW001"
        "::'p' is used after it was dropped%0Aline 3: 'p' was dropped here\n"
    )


def test_nothing_found_is_code_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.py", text="x = 1\n")
    assert main(["lint", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["lint", "--format=json", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_codes_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.py")
    assert main(["lint", "--ignore", "iow001, IOW004", str(tmp_path)]) == 0
    assert main(["lint", "--ignore", "IOW9", str(tmp_path)]) == 2
    assert "no code 'IOW9'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["no-such-file.py"], ["--format", "xml", "."]])
def test_asked_wrongly_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", *arguments]) == 2
    assert capsys.readouterr().err.startswith("isthmus: error: isthmus lint: ")


def test_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BAD.encode())))
    assert main(["lint", "-"]) == 1
    assert capsys.readouterr().out.startswith("<stdin>:4:7: IOW001 ")


def test_help_lists_the_codes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "isthmus", "lint", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    for code, rule in CODES.items():
        assert f"  {code}  {rule}\n" in done.stdout


def test_the_linter_imports_nothing_but_errors() -> None:
    code = "import sys, isthmus.lint; print(*(m for m in sys.modules if m.startswith('isthmus')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {m for m in done.stdout.split() if not m.startswith("isthmus.lint")}
    assert others == {"isthmus", "isthmus.errors"}
