"""Every code block of the README and of docs/ is run: see `docs.pages` for how."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from docs.pages import ROOT, SENTINEL, blocks, commands, needs, pages, script

PAGES = {str(p.relative_to(ROOT)): p.read_text() for p in pages()}


def run(page: str, text: str, folder: Path) -> None:
    path = folder / (page.replace("/", "_") + ".py")
    path.write_text(text)
    binaries = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "error",
    }
    done = subprocess.run(
        [sys.executable, path.name],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{page}:\n{done.stdout}"
    assert done.stdout.endswith(SENTINEL + "\n"), f"{page} ended early:\n{done.stdout}"


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if script(text)])
def test_the_page_runs(page: str, tmp_path: Path) -> None:
    text = script(PAGES[page])
    assert text
    run(page, text, tmp_path)


@pytest.mark.extras
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if needs(text)])
def test_the_page_runs_with_extras(page: str, tmp_path: Path) -> None:
    modules = needs(PAGES[page])
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    text = script(PAGES[page], modules)
    assert text
    run(page, text, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_names_its_language(page: str) -> None:
    nameless = [b.line for b in blocks(PAGES[page]) if not b.language]
    assert not nameless, f"{page}: blocks without a language (use `text`) at lines {nameless}"


@pytest.mark.parametrize("page", PAGES)
def test_every_script_parses(page: str) -> None:
    for block in blocks(PAGES[page]):
        if block.language in ("bash", "sh"):
            lines = "\n".join(block.code) + "\n"
            done = subprocess.run(
                ["bash", "-n"], input=lines, capture_output=True, text=True, check=False
            )
            assert not done.stderr, f"{page}, line {block.line}: {done.stderr}"


def test_every_guide_is_in_the_navigation_and_every_note_in_the_index() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    index = (ROOT / "docs" / "design" / "index.md").read_text()
    for page in pages():
        if page.parent.name in ("guide", "reference"):
            assert f": {page.parent.name}/{page.name}" in navigation, (
                f"{page.name} is not in mkdocs.yml"
            )
        elif page.parent.name == "design" and page.name != "index.md":
            assert f"]({page.name})" in index, f"{page.name} is not in docs/design/index.md"


EXAMPLE = textwrap.dedent("""\
    # Title

    ```python
    x = 1
    ```

    <!-- skip: it needs a server -->
    ```python
    raise SystemExit("not run")
    ```

    <!-- needs: torch -->
    ```python
    import torch
    ```

    <!-- file: greet.py -->
    ```python
    print("hi")
    ```

    ```console
    $ python greet.py
    hi
    $ make test
    ```

    ```bash
    isthmus bench \\
        run
    pip install something
    ```

    ```text
    assert False
    ```
    """)


def test_code_stands_at_its_own_line() -> None:
    text = script(EXAMPLE)
    assert text
    for number, line in enumerate(EXAMPLE.splitlines()):
        if line == "x = 1":
            assert text.splitlines()[number] == line


def test_markers_and_languages_choose_what_runs() -> None:
    text = script(EXAMPLE)
    assert text
    assert "not run" not in text
    assert "torch" not in text
    assert "assert False" not in text
    assert "import torch" in (script(EXAMPLE, frozenset({"torch"})) or "")
    shell = [command for block in blocks(EXAMPLE) for _, command in commands(block)]
    assert shell == ["python greet.py", "isthmus bench     run"]


def test_a_page_of_prose_has_no_script() -> None:
    assert script("# Title\n\nProse.\n") is None


@pytest.mark.parametrize("broken", ["<!-- skip -->", "<!-- skip: why -->\nprose between"])
def test_a_broken_marker_is_an_error(broken: str) -> None:
    with pytest.raises(ValueError, match="marker"):
        list(blocks(f"{broken}\n```python\n1\n```\n"))


def test_a_failing_block_and_an_early_end_fail_the_page(tmp_path: Path) -> None:
    for code in ("assert 1 == 2", "raise SystemExit(0)"):
        text = script(f"# Title\n\n```python\n{code}\n```\n")
        assert text
        with pytest.raises(AssertionError, match=r"page\.md"):
            run("page.md", text, tmp_path)
