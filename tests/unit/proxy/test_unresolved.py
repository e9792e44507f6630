"""What an unresolved proxy tells without resolving."""

from __future__ import annotations

import collections
import copy
import pickle
import subprocess
import sys
import textwrap
from collections import abc
from types import ModuleType

import numpy as np
import pytest


class Frame:
    """Has what notebooks and dask look for."""

    size = 3

    def __len__(self) -> int:
        return 3

    def _repr_html_(self) -> str:
        return "<table>"

    def __dask_graph__(self) -> None:
        return None


def forbidden() -> object:
    raise AssertionError("resolved")


def of(px: ModuleType, cls: type) -> object:
    return px.Proxy(forbidden, px.TargetClass.of(cls))


@pytest.mark.parametrize("cls", [int, dict, np.ndarray, Frame, collections.OrderedDict, type(len)])
def test_the_class_is_known_by_name(px: ModuleType, cls: type) -> None:
    p = of(px, cls)
    assert p.__class__ is cls
    assert isinstance(p, cls)
    assert isinstance(p, px.Proxy)
    assert not px.is_resolved(p)


def test_module_and_doc_are_the_class_s(px: ModuleType) -> None:
    p = of(px, Frame)
    assert p.__module__ == Frame.__module__
    assert p.__doc__ == Frame.__doc__
    with pytest.raises(AttributeError, match="'Frame' object has no attribute '__name__'"):
        p.__name__


@pytest.mark.parametrize("module", ["no_such_module_anywhere", "builtins"])
def test_a_class_that_is_not_here_needs_no_import(px: ModuleType, module: str) -> None:
    """A scheduler hands on proxies of classes whose packages it has not."""
    p = px.Proxy(forbidden, px.TargetClass(module, "Missing.<locals>.Frame", 0))
    assert p.__class__ is px.Proxy
    assert p.__module__ == module
    assert not hasattr(p, "__dask_graph__")
    assert not hasattr(p, "__torch_function__")
    assert not isinstance(p, abc.Iterable)
    assert not callable(p)
    assert repr(p).startswith(
        f"<unresolved Proxy of {module}.Missing.<locals>.Frame from <function"
    )
    assert pickle.loads(pickle.dumps(p)).__module__ == module


@pytest.mark.parametrize(
    "name",
    [
        "__dask_graph__",
        "__dask_keys__",
        "__dask_tokenize__",
        "__torch_function__",
        "__array_function__",
        "__array_ufunc__",
        "__array_interface__",
        "__cuda_array_interface__",
        "__dataframe__",
        "__arrow_c_stream__",
        "__rich_repr__",
        "__fspath__",
        "_ipython_display_",
        "_ipython_canary_method_should_not_exist_",
        "_repr_pretty_",
        "_repr_png_",
    ],
)
def test_probes_are_answered_from_the_class(px: ModuleType, name: str) -> None:
    assert not hasattr(of(px, list), name)


def test_what_the_class_has_is_fetched_to_be_used(px: ModuleType) -> None:
    p = px.Proxy(Frame, px.TargetClass.of(Frame))
    assert p.__dask_graph__() is None
    assert px.is_resolved(p)


def test_looking_at_it_in_a_notebook_does_no_io(px: ModuleType) -> None:
    p = of(px, Frame)
    text = repr(p)
    assert text.startswith(
        f"<unresolved Proxy of {Frame.__module__}.Frame from <function forbidden at"
    )
    assert p._repr_mimebundle_() == {
        "text/plain": text,
        "text/html": f"<code>{text.replace('<', '&lt;').replace('>', '&gt;')}</code>",
    }
    assert p._repr_html_() == p._repr_mimebundle_()["text/html"]
    assert "size" in dir(p)  # tab completion
    assert not px.is_resolved(p)


def test_once_resolved_it_looks_like_its_target(px: ModuleType) -> None:
    p = px.Proxy(Frame)
    px.resolve(p)
    assert p._repr_html_() == "<table>"
    assert not hasattr(p, "_repr_mimebundle_")
    assert repr(p).startswith("<")
    assert "Frame object" in repr(p)


def test_a_factory_says_how_it_is_shown(px: ModuleType) -> None:
    class Factory:
        def __call__(self) -> object:
            return forbidden()

        def __proxy_repr__(self) -> str:
            return "store 'demo', key 5"

    class Broken(Factory):
        def __proxy_repr__(self) -> str:
            raise ValueError("no text")

    assert repr(px.Proxy(Factory())) == "<unresolved Proxy from store 'demo', key 5>"
    assert "Broken object at" in repr(px.Proxy(Broken()))


def test_an_unknown_target_is_asked(px: ModuleType) -> None:
    for name in ("__class__", "__dask_graph__", "size"):
        p = px.Proxy(Frame)
        assert getattr(p, name) is not None
        assert px.is_resolved(p)


@pytest.mark.parametrize("use", [str, bool, hash, len, iter, lambda p: p == 3, lambda p: f"{p}"])
def test_use_resolves(px: ModuleType, use: object) -> None:
    with pytest.raises(AssertionError, match="resolved"):
        use(of(px, tuple))  # type: ignore[operator]


def test_no_hash_is_carried(px: ModuleType) -> None:
    """It differs between processes; one that travelled would break every set it gets into."""
    p = pickle.loads(pickle.dumps(px.Proxy(str, px.TargetClass.of(str))))
    assert hash(p) == hash("")
    assert px.is_resolved(p)


def test_copies_stay_unresolved(px: ModuleType) -> None:
    p = of(px, list)
    for twin in (copy.copy(p), copy.deepcopy(p), pickle.loads(pickle.dumps(p))):
        assert not px.is_resolved(twin)
        assert px.target_class(twin) == px.target_class(p)
        assert px.get_factory(twin) is forbidden


def test_dask_hashes_and_inspects_without_resolving(px: ModuleType) -> None:
    from dask.base import is_dask_collection, tokenize

    class Factory:
        def __init__(self, key: int) -> None:
            self.key = key

        def __call__(self) -> list[int]:
            return [self.key]

        def __dask_tokenize__(self) -> object:
            return "key", self.key

    def proxy(key: int) -> object:
        return px.Proxy(Factory(key), px.TargetClass.of(list))

    p = proxy(1)
    token = tokenize(p)
    assert not is_dask_collection(p)
    assert not px.is_resolved(p)
    assert token == tokenize(proxy(1)) != tokenize(proxy(2))
    px.resolve(p)
    assert tokenize(p) == token


def test_a_python_without_the_package_hands_it_on(px: ModuleType) -> None:
    """Unpickled, tokenized, asked about its class and pickled again where numpy cannot be imported."""
    data = pickle.dumps(px.Proxy(np.arange, px.TargetClass.of(np.ndarray)).__reduce_ex__(5)[1][1])
    code = f"""
        import sys
        sys.modules["numpy"] = None
        import pickle
        from isthmus.proxy import Proxy, is_resolved
        about = pickle.loads({data!r})
        p = Proxy(print, about)
        assert p.__class__ is Proxy and p.__module__ == "numpy", p.__class__
        assert not callable(p) and not hasattr(p, "__dask_graph__")
        q = pickle.loads(pickle.dumps(p))
        assert not is_resolved(p) and not is_resolved(q)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
