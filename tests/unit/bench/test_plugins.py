from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from isthmus.bench.config import AppConfig
from isthmus.bench.executor.configs import ParslHTEXConfig
from isthmus.bench.plugins import GROUPS, register
from isthmus.errors import NameTakenError, SpecError, UnknownKindError

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.mark.parametrize("kind", GROUPS)
def test_builtins_are_declared_and_carry_their_names(kind: str) -> None:
    registry = GROUPS[kind]
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]
    assert declared[registry.entry_points] == registry.builtin
    for name in registry.builtin:
        config = registry.get(name)
        first = config.model_fields["name"].default
        assert registry.get(first) is config  # the others are second names of it


def test_a_plugin_of_this_process_is_found() -> None:
    @register("app")
    class MineConfig(AppConfig):
        name: str = "mine-of-this-test"

    assert GROUPS["app"].get("mine-of-this-test") is MineConfig
    assert "mine-of-this-test" in GROUPS["app"].kinds()

    @register("app")  # as when a notebook's cell is run again
    class MineConfig(AppConfig):  # type: ignore[no-redef]
        name: str = "mine-of-this-test"

    assert GROUPS["app"].get("mine-of-this-test") is MineConfig

    with pytest.raises(NameTakenError):

        @register("app")
        class OtherConfig(AppConfig):
            name: str = "mine-of-this-test"


def test_a_plugin_needs_a_name_of_its_own_and_a_known_kind() -> None:
    with pytest.raises(SpecError, match="name: str = 'mine'"):

        @register("app")
        class NamelessConfig(AppConfig):
            pass

    with pytest.raises(NameTakenError, match="cholesky"):

        @register("app")
        class CholeskyConfig(AppConfig):
            name: str = "cholesky"

    with pytest.raises(UnknownKindError, match="did you mean 'app'"):
        register("apps")


@pytest.mark.parametrize("ports", [(55000, 54000), (54000, 54000)])
def test_ports_that_leave_no_choice_are_refused(ports: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="first port must be below the last"):
        ParslHTEXConfig(worker_ports=ports)
