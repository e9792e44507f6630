"""What stands in `examples/` is what the page of listings shows, and runs."""

from __future__ import annotations

import pytest

from docs.pages import ROOT, blocks


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_the_listing_is_the_example(path: object) -> None:
    text = path.read_text()  # type: ignore[attr-defined]
    page = (ROOT / "docs" / "listings.md").read_text()
    assert text.rstrip("\n") in ["\n".join(block.code) for block in blocks(page)]
