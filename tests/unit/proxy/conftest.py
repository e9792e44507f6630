"""Every test of the proxy runs on both implementations."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

import isthmus.proxy

NAMES = ("Proxy", "extract", "get_factory", "is_proxy", "is_resolved", "resolve", "target_class")


@pytest.fixture(params=["c", "python"])
def px(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`isthmus.proxy` as it is where this implementation was chosen."""
    if request.param == "c":
        chosen = pytest.importorskip("isthmus.proxy._proxy", exc_type=ImportError)
    else:
        chosen = importlib.import_module("isthmus.proxy._pure")
    for name in NAMES:
        monkeypatch.setattr(isthmus.proxy, name, getattr(chosen, name))
    monkeypatch.setattr(isthmus.proxy, "implementation", request.param)
    return isthmus.proxy
