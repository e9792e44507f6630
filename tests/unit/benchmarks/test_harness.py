"""The harness on snippets whose figures are known: real workers, no clocks in the assertions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.harness import Case, Code, Target, Value, at_least, at_most, compare, measure
from benchmarks.peers import HERE, SideError, Worker, Workers
from benchmarks.stats import Estimate


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Workers() as workers:
        yield workers


@pytest.mark.parametrize(
    ("target", "interval", "verdict"),
    [
        (at_most(2), (1, 2), "met"),
        (at_most(2), (2.1, 3), "missed"),
        (at_most(2), (1, 3), "inconclusive"),
        (at_least(2), (2, 3), "met"),
        (at_least(2), (1, 1.9), "missed"),
        (at_least(2), (1, 3), "inconclusive"),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    target: Target, interval: tuple[float, float], verdict: str
) -> None:
    low, high = interval
    assert target.judge(Estimate((low + high) / 2, low, high)) == verdict


def test_targets_read_as_in_the_tables() -> None:
    assert at_most(0.2, of="ProxyStore").text("ns") == "≤ 0.2× ProxyStore"
    assert at_least(3).text("GB/s") == "≥ 3 GB/s"
    assert at_most(5, over="bare").text("ms") == "≤ bare +5 ms"
    assert at_least(40, below="by value").text("ms") == "≥ 40 % below by value"
    assert compare("by value").text("ms") == "–"


def test_values_are_compared_with_references_in_all_three_ways(workers: Workers) -> None:
    targets = [at_most(0.5, of="bare"), at_most(-4, over="bare"), at_least(5)]
    result = measure(Case("v", Value("4"), {"bare": Value("8")}, targets, unit="B"), workers)
    assert result.samples == {HERE: [4] * 15, "bare": [8] * 15}
    assert [(j.estimate[0], j.verdict) for j in result.judged() if j.estimate] == [
        (0.5, "met"),
        (-4, "met"),
        (4, "missed"),
    ]


def test_percent_below_a_reference_with_and_without_a_bound(workers: Workers) -> None:
    targets = [at_least(40, below="bare"), at_least(60, below="bare"), compare("bare")]
    result = measure(Case("v", Value("4"), {"bare": Value("8")}, targets, unit="ms"), workers)
    found = [(j.estimate.figure, j.verdict) for j in result.judged() if j.estimate]
    assert found == [(50, "met"), (50, "missed"), (50, "not judged")]


def test_more_work_takes_longer_and_every_side_gets_every_round(workers: Workers) -> None:
    case = Case(
        "sum",
        Code("sum(x)", "x = range(10)"),
        {"ten times": Code("sum(x)", "x = range(1000)")},
        [at_most(0.9, of="ten times")],
    )
    result = measure(case, workers, quick=True)
    assert {side: len(s) for side, s in result.samples.items()} == {HERE: 3, "ten times": 3}
    assert [j.verdict for j in result.judged()] == ["met"]


def test_before_and_after_frame_every_loop_and_are_not_timed(workers: Workers) -> None:
    code = Code(
        "bag.append(1)",
        "bag, seen = [], []",
        before="assert not bag",
        after="assert bag == [1]; bag.clear(); seen.append(1); time.sleep(0.01)",
    )
    slow = Code(code.stmt, code.setup + "\nimport time", code.before, code.after)
    result = measure(Case("framed", slow, unit="ms"), workers, quick=True)
    assert max(result.samples[HERE]) < 10


def test_augmented_assignment_and_pickling_of_a_setup_class_work(workers: Workers) -> None:
    setup = "import pickle\nclass Thing: ...\ntotal = 0\nthing = Thing()"
    stmt = "total += 1; pickle.loads(pickle.dumps(thing))"
    assert not measure(Case("pickle", Code(stmt, setup)), workers, quick=True).errors


def test_rates_grow_with_the_amount() -> None:
    case = Case("copy", Value("1"), unit="GB/s", amount=2e9)
    assert case.figure(0.5) == pytest.approx(4)
    assert Case("x", Value("1"), unit="ns").figure(1e-6) == pytest.approx(1000)


def test_a_side_that_fails_is_named_and_the_others_go_on(workers: Workers) -> None:
    against = {"broken": Value("memoryview(3)"), "bare": Value("2")}
    targets = [at_most(1, of="broken"), at_most(1, of="bare")]
    result = measure(Case("v", Value("1"), against, targets), workers, quick=True)
    assert result.errors["broken"].startswith("TypeError")
    assert [j.verdict for j in result.judged()] == ["not measured", "met"]


def test_what_a_snippet_prints_does_not_disturb_the_answers(workers: Workers) -> None:
    loud = Value("print('noise') or 1.0", "import os; os.system('echo more noise')")
    assert measure(Case("loud", loud), workers, quick=True).samples[HERE] == [1.0] * 3


def test_a_worker_that_dies_says_so_and_is_replaced() -> None:
    with Workers() as own:
        result = measure(Case("dies", Value("1", "import os; os._exit(3)")), own, quick=True)
        assert result.errors[HERE].startswith("died")
        assert measure(Case("v", Value("1")), own, quick=True).samples[HERE] == [1.0] * 3


def test_a_missing_environment_says_what_to_do() -> None:
    with pytest.raises(SideError, match="scripts/setup-peers"):
        Worker("ProxyStore", "/nonexistent/python")
