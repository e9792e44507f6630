"""Random programs: what the linter says of their text against what happens when they run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import hypothesis.strategies as st
from hypothesis import assume, given, settings

from isthmus.lint import lint_source
from unit.lint.runtime import World

IMPORTS = (
    "from isthmus.store import borrow, clone, drop, mut_borrow, update; "
    "from isthmus.store.scopes import submit"
)
START = ["p = store.owned_proxy(1)", "q = store.owned_proxy(2)", "r = s = None", "t = u = done()"]
MAX_PATHS = 300  # of one program; one with more is left out


def statements() -> Iterator[str]:
    """Yield every statement that programs are made of."""
    for p, q in product("pq", repeat=2):
        yield f"{p} = {q}"
        yield f"{p} = clone({q})"
        yield f"p, q = {p}, {q}"
    for r, s in product("rs", repeat=2):
        yield f"{r} = {s}"
    for p in "pq":
        yield from (f"{p} = store.owned_proxy(3)", f"{p} = None", f"print({p})", f"update({p})")
        yield f"drop({p})"
        for r in "rs":
            yield from (f"{r} = borrow({p})", f"{r} = mut_borrow({p})")
    for r, t in product("rs", "tu"):
        yield from (f"{r} = None", f"{t}.result()", "t, u = u, t")
        for p in "pq":
            for passed in (p, r, f"borrow({p})", f"mut_borrow({p})", f"{r}, {p}"):
                yield f"submit(pool.submit, args=(sum, {passed}))"
                yield f"{t} = submit(pool.submit, args=(sum, {passed}))"


STATEMENTS = list(statements())
simple = st.sampled_from(STATEMENTS)
# Where an exception may come from anywhere, as the linter has it, and not from `raise` alone, as here: no
# name whose value depends on how far the block came.
settled = st.sampled_from([statement for statement in STATEMENTS if "None" not in statement])


@st.composite
def blocks(
    draw: st.DrawFn, depth: int, loops: bool, in_loop: bool = False, in_try: bool = False
) -> list[str]:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 4))):
        kinds = ["simple"] * 4
        if depth:
            kinds += ["if", "else", "try"] + ["for"] * loops
        if in_loop:
            kinds += ["break"]
        kind = draw(st.sampled_from(kinds))

        def inner(loop: bool = in_loop, risky: bool = in_try) -> list[str]:
            return ["    " + line for line in draw(blocks(depth - 1, loops, loop, risky))]

        if kind == "simple":
            lines.append(draw(settled if in_try else simple))
        elif kind in ("if", "else"):
            lines += ["if choice():", *inner()]
            if kind == "else":
                lines += ["else:", *inner()]
        elif kind == "for":
            lines += ["for _ in rounds():", *inner(True)]
        elif kind == "break":
            lines += ["if choice():", "    " + draw(st.sampled_from(["break", "continue"]))]
        else:
            lines += ["try:", *inner(risky=True), "    if choice():", "        raise Oops"]
            lines += inner(risky=True)
            lines += ["except Oops:", *inner()]
            if draw(st.booleans()):
                lines += ["finally:", *inner()]
    return lines


def outcomes(source: str) -> set[tuple[int, str]] | None:
    """Run every path of a program, and return what each breaks first; None if there are too many."""
    found = set()
    paths: list[list[int]] = [[]]
    for _ in range(MAX_PATHS):
        if not paths:
            return found
        path = paths.pop()
        world = World(iter(path))
        if broken := world.run(source):
            found.add(broken)
        # Each choice beyond the path was 0: it is 1 on another path.
        paths += [[*world.made[:n], 1] for n in range(len(path), len(world.made))]
    return None


def as_module(lines: list[str]) -> tuple[str, str]:
    """Return the program to check, and the one to run, line by line the same."""
    body = "\n".join([*START, *lines]) + "\n"
    return f"{IMPORTS}\n{body}", f"\n{body}"


def as_function(lines: list[str]) -> tuple[str, str]:
    body = "\n    ".join(["def program():", *START, *lines])
    return f"{IMPORTS}\n{body}\n    pass\n", f"\n{body}\n    end(locals())\nprogram()\n"


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(simple, min_size=1, max_size=12), st.booleans())
def test_straight_programs_break_a_rule_exactly_where_the_linter_says(
    lines: list[str], function: bool
) -> None:
    checked, run = (as_function if function else as_module)(lines)
    first = [(f.line, f.code) for f in lint_source(checked)][:1]
    broken = World(iter(())).run(run)
    assert first == ([broken] if broken else []), checked


@settings(max_examples=100, deadline=None, derandomize=True)
@given(blocks(depth=2, loops=False))
def test_what_is_found_first_among_branches_happens_on_a_path(lines: list[str]) -> None:
    checked, run = as_module(lines)
    for finding in lint_source(checked)[:1]:
        # Execution stops at the first broken rule, the linter goes on: one that it missed may come first.
        first = (finding.line, finding.code)
        found = outcomes(run)
        assume(found is not None)
        assert first in found or (found and min(found) < first), f"{finding}\n{checked}"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(blocks(depth=2, loops=True))
def test_no_alarm_about_a_program_without_a_wrong_path(lines: list[str]) -> None:
    checked, run = as_module(lines)
    if findings := lint_source(checked):
        found = outcomes(run)
        assume(found is not None)
        assert found, f"{findings}\n{checked}"
