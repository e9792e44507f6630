"""An example that the page of listings shows is shown as it is; the page runs it."""

from __future__ import annotations

import pytest

from docs.pages import ROOT, blocks


@pytest.mark.parametrize("path", ["stream.py"])
def test_the_listing_is_the_example(path: str) -> None:
    text = (ROOT / "examples" / path).read_text()
    page = (ROOT / "docs" / "listings.md").read_text()
    assert text.rstrip("\n") in ["\n".join(block.code) for block in blocks(page)]
