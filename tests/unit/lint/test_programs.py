"""Programs that break the rules, at which line; and programs about which the linter must be silent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.pages import ROOT, pages, script
from isthmus.lint import CODES, Finding, lint_paths, lint_source
from unit.lint.broken import BROKEN, IMPORTS, OTHER_NAMES
from unit.lint.sound import SOUND


def marked(source: str) -> list[tuple[int, str]]:
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        if match := re.search(r"#! (IOW\d{3})$", line):
            found.append((number, match[1]))
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_found_where_it_is_broken(name: str) -> None:
    source = IMPORTS + BROKEN[name]
    assert marked(source)
    assert [(f.line, f.code) for f in lint_source(source)] == marked(source)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_are_followed_through_imports(name: str) -> None:
    source = OTHER_NAMES[name]
    assert [(f.line, f.code) for f in lint_source(source)] == marked(source)


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_program_is_passed_in_silence(name: str) -> None:
    assert lint_source(IMPORTS + SOUND[name]) == []


@pytest.mark.parametrize("name", [n for n in BROKEN if "import" not in BROKEN[n]])
def test_without_the_imports_nothing_is_known_but_methods(name: str) -> None:
    assert lint_source("borrow = drop = submit = into_owned = unknown()\n" + BROKEN[name]) == []


def test_every_rule_has_a_broken_program() -> None:
    tried = {code for source in BROKEN.values() for _, code in marked(source)}
    assert tried == CODES.keys() - {"IOW000"}


def test_a_finding_names_both_places() -> None:
    source = IMPORTS + BROKEN["moved by submit"]
    (found,) = lint_source(source, "a.py")
    assert found == Finding(
        "a.py", 6, 11, "IOW001", "'p' is used after it was moved", found.earlier, 6
    )
    assert found.earlier == (5, 36, "'p' was moved here by submit")


def test_a_task_that_was_not_waited_for_is_named() -> None:
    (found,) = lint_source(IMPORTS + BROKEN["a task has it still"])
    assert found.earlier is not None
    assert found.earlier.text.endswith("for a task not waited for")


def test_a_function_with_too_many_paths_is_left_alone() -> None:
    depth = 16
    loops = "".join("    " * i + f"for x{i} in y:\n" for i in range(depth))
    source = f"{IMPORTS}{loops}{'    ' * depth}drop(p)\np = s.owned_proxy(1)\ndrop(p)\ndrop(p)\n"
    assert lint_source(source) == []


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "examples", "scripts"])
def test_no_false_alarm_in_this_project(folder: str) -> None:
    if (ROOT / folder).is_dir():
        assert list(lint_paths([str(ROOT / folder)])) == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_no_false_alarm_in_the_documentation(page: Path) -> None:
    assert lint_source(script(page.read_text()) or "", page.name) == []
