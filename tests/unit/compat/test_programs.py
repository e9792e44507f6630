"""Interpreters of their own: the command line, the variable, and what crosses between processes."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from isthmus.compat import VARIABLE


def run(
    *arguments: str, cwd: Path | None = None, code: int = 0, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != VARIABLE} | variables
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def script(folder: Path, text: str, name: str = "script.py") -> str:
    (folder / name).write_text(textwrap.dedent(text))
    return name


COMPAT = ("-m", "isthmus.compat", "--alias", "proxystore")


def test_a_script_is_main_and_has_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "beside.py").write_text("here = True")
    name = script(
        tmp_path,
        """
        import sys
        import proxystore, beside

        class Mine: pass

        print(sys.argv, __name__, __file__, Mine.__module__, beside.here)
        assert sys.modules["__main__"].Mine is Mine
        raise SystemExit(3)
        """,
        "sub/script.py",
    )
    done = run(*COMPAT, name, "--alias", "x", "-h", cwd=tmp_path, code=3)
    assert done.stdout.split("\n")[0] == (
        f"['sub/script.py', '--alias', 'x', '-h'] __main__ {tmp_path}/sub/script.py __main__ True"
    )


def test_a_script_is_found_and_finds_its_neighbours_as_by_python_itself(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    script(tmp_path, "here = True", "beside.py")
    script(
        tmp_path,
        """
        import os, sys
        import beside

        os.chdir("/")
        print(os.path.exists(__file__), __file__, sys._getframe().f_code.co_filename, sys.path[0])
        """,
    )
    (tmp_path / "sub" / "link.py").symlink_to("../script.py")
    name = "sub/link.py"
    assert run(*COMPAT, name, cwd=tmp_path).stdout == run(name, cwd=tmp_path).stdout


def test_a_module_is_run_as_main(tmp_path: Path) -> None:
    script(tmp_path, "import sys, proxystore; print(sys.argv[1:], __name__)", "program.py")
    done = run(
        "-m", "isthmus.compat", "--alias=proxystore,taps", "-m", "program", "a", cwd=tmp_path
    )
    assert done.stdout == "['a'] __main__\n"


@pytest.mark.parametrize("start", ["spawn", "fork", "forkserver"])
def test_processes_that_a_script_starts_have_the_alias(tmp_path: Path, start: str) -> None:
    name = script(
        tmp_path,
        f"""
        import multiprocessing

        def standing(_):
            import proxystore
            return proxystore.__spec__.origin

        if __name__ == "__main__":
            with multiprocessing.get_context({start!r}).Pool(1) as pool:
                print(pool.map(standing, [0]))
        """,
    )
    assert run(*COMPAT, name, cwd=tmp_path).stdout == "['isthmus.compat']\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["script.py"], "--alias proxystore, say"),
        (["--alias"], "names no package"),
        (["--alias", "proxystore"], "nothing to run"),
        (["--alias", "proxystor", "script.py"], "did you mean 'proxystore'"),
        (["--alias", "proxystore", "--wrong", "script.py"], "unknown option: '--wrong'"),
        (["--alias", "proxystore", "absent.py"], "cannot read 'absent.py'"),
    ],
)
def test_what_is_asked_wrongly_is_said_in_a_line(
    tmp_path: Path, arguments: list[str], says: str
) -> None:
    script(tmp_path, "")
    done = run("-m", "isthmus.compat", *arguments, cwd=tmp_path, code=2)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_help() -> None:
    assert "ISTHMUS_COMPAT" in run("-m", "isthmus.compat").stdout


def test_the_variable_reaches_any_interpreter() -> None:
    code = "import proxystore, taps; print(proxystore.__spec__.origin)"
    assert run("-c", code, ISTHMUS_COMPAT="proxystore, taps").stdout == "isthmus.compat\n"


def test_without_the_variable_nothing_is_imported() -> None:
    # `os` is there anyway: site.py has imported it before it reads the line.
    code = "import sys; print([n for n in sys.modules if 'isthmus' in n])"
    for value in ({}, {VARIABLE: ""}):
        assert run("-c", code, **value).stdout == "[]\n"


def test_with_the_variable_little_is_imported() -> None:
    code = "import sys; print(*sys.modules)"
    bare = set(run("-c", code).stdout.split())
    ours = set(run("-c", code, ISTHMUS_COMPAT="proxystore").stdout.split()) - bare
    assert "isthmus.compat" in ours
    assert not ours & {"typing", "threading", "re", "collections", "msgspec", "isthmus.errors"}


def test_an_unknown_package_in_the_variable_is_told_and_the_rest_works() -> None:
    done = run("-c", "import proxystore", ISTHMUS_COMPAT="proxystor,proxystore")
    assert "did you mean 'proxystore'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_isthmus_that_cannot_be_imported_stops_no_interpreter(tmp_path: Path) -> None:
    # What a hook left behind by an unclean removal meets.
    files = importlib.metadata.files("isthmus") or ()
    hook = next(file for file in files if file.name == "isthmus-compat.pth")
    (tmp_path / "hook.pth").write_text(hook.read_text())
    code = f"import site; site.addsitedir({str(tmp_path)!r}); print('started')"
    done = run("-S", "-I", "-c", code, ISTHMUS_COMPAT="proxystore")
    assert done.stdout == "started\n"
    assert "No module named 'isthmus'" in done.stderr


def test_this_installation_has_the_hook() -> None:
    names = [file.name for file in importlib.metadata.files("isthmus") or ()]
    assert "isthmus-compat.pth" in names


def test_what_is_pickled_under_an_alias_needs_none_to_be_read(tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    writer = """
        import pickle
        from proxystore.connectors.file import FileConnector
        from proxystore.connectors.multi import MultiConnector, Policy
        from proxystore.factory import SimpleFactory
        from proxystore.proxy import Proxy
        from proxystore.store import Store

        with Store("across", FileConnector("objects")) as store:
            things = [
                store.proxy([1, 2]),
                store.proxy([1, 2], populate_target=False),
                Proxy(SimpleFactory([1, 2])),
                store,
                store.config(),
                store.connector,
                Store,
                Policy(superset_tags=("a",)),
            ]
            with open("things", "wb") as file:
                pickle.dump(things, file)
    """
    reader = """
        import pickle

        with open("things", "rb") as file:
            things = pickle.load(file)
        assert all(proxy == [1, 2] for proxy in things[:3])
        assert things[3].config().connector == things[4].connector
        things[3].close()
        things[5].close()
        import sys
        print([n for n in sys.modules if n.startswith("proxystore")])
    """
    run(*COMPAT, script(tmp_path, writer), cwd=tmp_path)
    read = script(tmp_path, reader, "reader.py")
    assert run(read, cwd=tmp_path).stdout == "[]\n"
    assert run(*COMPAT, read, cwd=tmp_path).stdout == "[]\n"
