"""numpy's protocols, and torch's."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest


def proxies(px: ModuleType, target: Any) -> list[Any]:
    """Resolved, unresolved of a known and of an unknown class."""
    told = px.Proxy(lambda: target, px.TargetClass.of(target))
    plain, resolved = px.Proxy(lambda: target), px.Proxy(lambda: target)
    px.resolve(resolved)
    return [told, plain, resolved]


def test_ufuncs_write_into_a_proxied_array(px: ModuleType) -> None:
    x = np.arange(3.0)
    for p in proxies(px, x):
        x[:] = [0, 1, 2]
        result = np.add(p, 1, out=p)
        assert result is x
        assert x.tolist() == [1, 2, 3]
        np.multiply(x, p, out=(p,), where=px.Proxy(lambda: np.array([True, False, True])))
        assert x.tolist() == [1, 2, 9]


def test_ufunc_methods_and_keywords(px: ModuleType) -> None:
    x = np.arange(6.0).reshape(2, 3)
    for p in proxies(px, x):
        assert np.add.reduce(p, axis=1).tolist() == [3, 12]
        assert np.add.outer(p[0], px.Proxy(lambda: [1, 2])).tolist() == [[1, 2], [2, 3], [3, 4]]
        assert np.add.accumulate(p, axis=0).tolist() == [[0, 1, 2], [3, 5, 7]]
        assert np.divmod(p, 2, dtype=float)[1].tolist() == [[0, 1, 0], [1, 0, 1]]
        with pytest.raises(TypeError, match=r"operands|axis"):
            np.add(p, 1, axis=3)


def test_ufuncs_take_several_tuples(px: ModuleType) -> None:
    x = np.ones((2, 3, 4))
    for p in proxies(px, x):
        out = np.zeros(2)
        assert np.add.reduce(p, axis=(1, 2), out=(out,)) is out
        assert out.tolist() == [12, 12]
        assert np.add(p, 1, signature=(float, float, float), out=(x.copy(),)).sum() == 2 * x.sum()


def test_functions_find_proxies_in_lists(px: ModuleType) -> None:
    x = np.arange(3)
    for p in proxies(px, x):
        assert np.concatenate([p, p]).tolist() == [0, 1, 2, 0, 1, 2]
        assert np.block([[p, x], [x, p]]).shape == (2, 6)
        assert np.einsum("i,i->", p, p) == 5
        assert np.take(p, px.Proxy(lambda: [0, 2])).tolist() == [0, 2]


def test_subclasses_stay_what_they_are(px: ModuleType) -> None:
    m = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
    for p in proxies(px, m):
        assert type(p + 1) is np.ma.MaskedArray
        assert np.ma.mean(p) == 2
        assert isinstance(p, np.ma.MaskedArray)


def test_an_array_is_shared_not_copied(px: ModuleType) -> None:
    x = np.arange(3.0)
    for p in proxies(px, x):
        assert np.shares_memory(np.asarray(p), x)
        assert p.__array_interface__ == x.__array_interface__


def test_ours_are_only_there_where_the_target_s_are(px: ModuleType) -> None:
    names = ("__array_ufunc__", "__array_function__", "__torch_function__", "__array_priority__")
    for target in (np.zeros(1), 3, [1]):
        for p in proxies(px, target):
            assert [hasattr(p, n) for n in names] == [hasattr(target, n) for n in names]


class Quiet:
    __array_ufunc__ = None


def test_a_class_that_opts_out_of_ufuncs(px: ModuleType) -> None:
    for p in proxies(px, Quiet()):
        assert p.__array_ufunc__ is None
        with pytest.raises(TypeError, match="does not support ufuncs"):
            np.add(p, 1)


def test_many_arguments(px: ModuleType) -> None:
    """More than fit on the stack of the C implementation."""
    many = np.frompyfunc(lambda *a: sum(a), 15, 1)
    p = px.Proxy(lambda: 2)
    assert many(*[p] * 15) == 30


def test_pandas(px: ModuleType) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
    for p in proxies(px, frame):
        assert isinstance(p, pd.DataFrame)
        assert p["a"].sum() == 6
        assert (p.a > px.Proxy(lambda: 1)).tolist() == [False, True, True]
        assert pd.concat([px.extract(p), frame]).shape == (6, 2)
        assert len(p.merge(frame, on="a")) == 3
        assert p.loc[1, "b"] == "y"


@pytest.mark.extras
def test_torch(px: ModuleType) -> None:
    torch = pytest.importorskip("torch")
    t = torch.arange(3.0)
    for p in proxies(px, t):
        assert isinstance(p, torch.Tensor)
        assert torch.is_tensor(p)
        assert torch.equal(torch.add(p, p), t + t)
        assert torch.equal(torch.stack([p, t]), torch.stack([t, t]))
        assert torch.equal(t + p, t + t)
        assert torch.equal(p @ p, t @ t)
        assert torch.equal(torch.nn.functional.relu(p), t)
        assert torch.add(p, 1, out=torch.empty(3)).tolist() == [1, 2, 3]
        assert torch.equal(t.add(p), t + t)
        assert np.asarray(p).tolist() == [0, 1, 2]
