"""The finder: who answers for a foreign name, and what is said where nobody does."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus import compat
from isthmus.compat.alias import ALIASES, load_alias
from isthmus.errors import AliasError, UnknownKindError


@pytest.fixture(autouse=True)
def no_aliases() -> Iterator[None]:
    yield
    compat.uninstall()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, for packages that the test makes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [n for n in sys.modules if n.partition(".")[0] in ALIASES]:
        del sys.modules[name]


def installed(folder: Path, name: str, text: str = "") -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)
    importlib.invalidate_caches()


@pytest.mark.parametrize("package", sorted(ALIASES))
def test_every_name_of_a_table_is_one_of_ours(package: str) -> None:
    pytest.importorskip("pydantic")
    alias = load_alias(package)
    for names in alias.modules.values():
        for name, target in names.items():
            module, _, attribute = target.partition(":")
            assert hasattr(importlib.import_module(module), attribute), f"{name}: {target}"


def test_nothing_answers_before_it_is_asked_for_nor_afterwards() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'proxystore'"):
        import_("proxystore")
    compat.install("proxystore")
    assert import_("proxystore.store").get_store
    compat.uninstall("proxystore")
    with pytest.raises(ModuleNotFoundError, match="No module named 'proxystore'"):
        import_("proxystore.store")
    assert not [n for n in sys.modules if n.startswith("proxystore")]


def import_(name: str) -> object:
    return importlib.import_module(name)


def test_installing_imports_nothing_and_twice_is_once() -> None:
    before = set(sys.modules)
    compat.install("proxystore", "taps")
    compat.install("proxystore")
    assert set(sys.modules) == before
    assert sum(type(finder).__name__ == "AliasFinder" for finder in sys.meta_path) == 1


def test_an_unknown_package_is_refused_and_nothing_is_installed() -> None:
    with pytest.raises(UnknownKindError, match="did you mean 'proxystore'"):
        compat.install("taps", "proxystor")
    assert not compat.standing("taps")


def test_a_module_has_its_names_and_says_what_it_is() -> None:
    compat.install("proxystore")
    import proxystore

    assert tuple(int(part) for part in proxystore.__version__.split(".")) >= (0, 7)
    assert "isthmus" in repr(proxystore)
    from isthmus.proxy import Proxy

    assert proxystore.proxy.Proxy is Proxy  # a submodule is there without an import of its own
    names: dict[str, object] = {}
    exec("from proxystore.proxy import *", names)
    assert names["Proxy"] is Proxy
    assert "extract" in dir(proxystore.proxy)
    with pytest.raises(AttributeError, match=r"has no proxystore\.proxy\.Proxi"):
        proxystore.proxy.Proxi
    with pytest.raises(ImportError, match="cannot import name 'Proxi'"):
        exec("from proxystore.proxy import Proxi")


def test_a_part_that_is_not_there_yet_says_so() -> None:
    compat.install("proxystore", "academy")
    with pytest.raises(AliasError, match="no futures of stores yet") as caught:
        import_("proxystore.store.future")
    assert caught.value.name == "proxystore.store.future"
    with pytest.raises(AliasError, match="no extensions"):
        import_("proxystore.ex.connectors.daos")
    with pytest.raises(AliasError, match="agents"):
        import_("academy.agent")
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'proxystore\.nonsense'"):
        import_("proxystore.nonsense")


def test_an_installed_package_wins(folder: Path) -> None:
    installed(folder, "proxystore", "mine = True")
    compat.install("proxystore", "taps")
    assert compat.standing("proxystore") == str(folder / "proxystore" / "__init__.py")
    assert import_("proxystore").mine
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        import_("proxystore.store")  # of the installed one, which has none: the two do not mix
    assert compat.standing("taps") == "isthmus"
    assert import_("taps.logging").init_logging


def test_an_installed_package_wins_whose_finder_came_later(folder: Path) -> None:
    installed(folder, "taps", "mine = True")
    sys.path.remove(str(folder))

    class Editable:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> object:
            place = folder / name / "__init__.py"
            return importlib.util.spec_from_file_location(name, place) if place.exists() else None

    compat.install("taps", "proxystore")
    sys.meta_path.append(Editable)  # type: ignore[arg-type]
    try:
        assert import_("taps").mine
        assert compat.standing("proxystore") == "isthmus"
    finally:
        sys.meta_path.remove(Editable)  # type: ignore[arg-type]


def test_a_package_that_was_imported_before_wins(folder: Path) -> None:
    installed(folder, "taps")
    mine = import_("taps")
    sys.path.remove(str(folder))
    compat.install("taps")
    assert import_("taps") is mine
    assert compat.standing("taps") == str(folder / "taps" / "__init__.py")


def test_a_mere_folder_in_the_way_is_named(folder: Path) -> None:
    (folder / "proxystore").mkdir()
    importlib.invalidate_caches()
    compat.install("proxystore")
    assert compat.standing("proxystore") == "a folder"
    with pytest.raises(AliasError, match=r"has no __init__\.py"):
        import_("proxystore.store")


def test_standing_imports_nothing() -> None:
    assert compat.standing("proxystore") == ""
    compat.install("proxystore")
    assert compat.standing("proxystore") == "isthmus"
    assert "proxystore" not in sys.modules
    import_("proxystore")
    assert compat.standing("proxystore") == "isthmus"


def test_threads_that_import_at_once_get_one_module() -> None:
    compat.install("proxystore")
    start = threading.Barrier(8)
    found: list[object] = []

    def look() -> None:
        start.wait()
        found.append(import_("proxystore.store").Store)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_reload_keeps_the_module_and_its_names() -> None:
    compat.install("proxystore")
    module = import_("proxystore.store")
    first = module.Store
    assert importlib.reload(module) is module
    assert module.Store is first
    assert module.__name__ == "proxystore.store"


def test_the_usual_question_whether_a_package_is_there() -> None:
    assert importlib.util.find_spec("proxystore") is None
    compat.install("proxystore")
    spec = importlib.util.find_spec("proxystore")
    assert spec is not None
    assert spec.origin == "isthmus.compat"


def test_children_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compat.VARIABLE, "taps, academy")
    compat.install("proxystore", "taps", children=True)
    assert os.environ[compat.VARIABLE] == "taps,academy,proxystore"
