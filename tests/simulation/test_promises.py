"""Thousands of histories keep every promise, a bug that is planted breaks one, and a seed says it all."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import pytest

from isthmus.testing.simulator import (
    SCENARIOS,
    Failure,
    Faults,
    Node,
    World,
    explore,
    replay,
    shrink,
    world,
)
from isthmus.testing.simulator.__main__ import main
from simulation.planted import BUGS, ONLY_SWITCHES, Untiring, delivery


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_hundred_histories_keep_every_promise(scenario: str) -> None:
    failure = explore(SCENARIOS[scenario], range(100))
    assert failure is None, failure.text


def test_paths_that_lose_nothing_by_themselves_need_no_ticks() -> None:
    failure = explore(delivery(Untiring, ONLY_SWITCHES), range(100))
    assert failure is None, failure.text


@pytest.mark.large
@pytest.mark.timeout(600)
def test_ten_thousand_histories_keep_every_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--histories", "10000", "--seed", "1"]) == 0, capsys.readouterr().out


@functools.cache
def caught(name: str) -> Failure:
    bug = BUGS[name]
    failure = explore(bug.scenario, range(bug.seeds))
    assert failure is not None, f"{name} was not caught within {bug.seeds} seeds"
    return failure


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_caught_and_its_seed_shows_it_again(name: str) -> None:
    failure = caught(name)
    assert failure.promise.startswith(BUGS[name].promises), failure.text
    assert replay(BUGS[name].scenario, failure.seed) == failure


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_the_same_seeds_pass(name: str) -> None:
    first = caught(name).seed
    failure = explore(BUGS[name].sound, range(max(0, first - 20), first + 1))
    assert failure is None, failure.text


class Alone:
    """A history of one node."""

    def __init__(self, node: type[Node], seed: int, faults: Faults | None = None) -> None:
        self.world = World(seed, faults)
        self._node = node

    def run(self) -> World:
        self.world.add(self._node("it"))
        self.world.run_until(lambda: False, limit=10)
        return self.world


def test_an_error_of_the_protocol_says_in_which_history() -> None:
    class Wrong(Node):
        def on_start(self) -> None:
            self.timer(1, "later")

        def on_timer(self, name: str) -> None:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        explore(functools.partial(Alone, Wrong), range(3, 9))
    (note,) = caught.value.__notes__
    assert note.startswith("seed 3; the last events:")
    assert "it           up 1" in note


def test_a_protocol_in_which_no_time_passes_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    class Spinning(Node):
        def on_start(self) -> None:
            self.timer(0, "again")

        def on_timer(self, name: str) -> None:
            self.timer(0, "again")

    monkeypatch.setattr(world, "AT_ONCE", 1000)
    failure = explore(functools.partial(Alone, Spinning), [7])
    assert failure is not None
    assert failure.promise == "time goes on fire"
    assert replay(functools.partial(Alone, Spinning), 7) == failure


@pytest.mark.parametrize("hash_seed", ["0", "12345"])
def test_a_seed_goes_the_same_way_in_every_process(hash_seed: str) -> None:
    for scenario in SCENARIOS:
        here = {replay(SCENARIOS[scenario], 7), replay(SCENARIOS[scenario], 7)}
        command = [
            "-m",
            "isthmus.testing.simulator",
            "--replay",
            "--scenario",
            scenario,
            "--seed",
            "7",
        ]
        there = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert {f"{scenario} 7: {outcome}" for outcome in here} == {there.splitlines()[0]}


def test_a_failing_history_is_printed_with_its_seed_and_shrunk(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCENARIOS, "delivery", BUGS["duplicate admitted"].scenario)
    assert main(["--scenario", "delivery", "--seed", "0", "--histories", "50"]) == 1
    out = capsys.readouterr().out
    assert "no effect twice" in out
    assert "seed 0; the last events" in out
    assert "--replay --scenario delivery --seed 0" in out


def test_shrinking_leaves_what_the_bug_needs() -> None:
    scenario = BUGS["stale epoch's ack accepted"].scenario
    failure = caught("stale epoch's ack accepted")
    faults, smaller = shrink(scenario, failure)
    assert replay(scenario, failure.seed, faults) == smaller
    drawn = scenario(failure.seed).world.faults
    changed = {f for f in faults.__struct_fields__ if getattr(faults, f) != getattr(drawn, f)}
    assert changed


def test_replay_needs_to_know_which_scenario() -> None:
    with pytest.raises(SystemExit):
        main(["--replay", "--seed", "3"])
