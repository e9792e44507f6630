from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.bench.toml import dumps

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(text, values, max_size=4))
def test_what_is_written_is_read_back(contents: dict[str, Any]) -> None:
    assert tomllib.loads(dumps(contents)) == contents


def test_none_has_no_form() -> None:
    with pytest.raises(TypeError, match="no form in TOML"):
        dumps({"a": None})
