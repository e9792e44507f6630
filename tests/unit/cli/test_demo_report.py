"""The demo's report: what follows from the figures, and that page and terminal tell all of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from isthmus.cli.demo import terminal
from isthmus.cli.demo.page import page
from isthmus.cli.demo.report import Measured, Report, Sample, Workload, times_text
from isthmus.cli.quantities import bytes_text, seconds_text

VOID = {"meta", "br", "line", "rect", "circle", "polyline"}


def measured(
    workload: str,
    engine: str,
    by_proxy: bool,
    makespans: list[float],
    scheduler_bytes: int | None,
    peak: int,
    digest: str = "d1",
) -> Measured:
    trace = [Sample(0.05 * i, peak - (19 - i) * 1_000_000) for i in range(20)]
    return Measured(
        workload=workload,
        engine=engine,
        by_proxy=by_proxy,
        makespans=makespans,
        startup=0.731,
        tasks=56,
        scheduler_bytes=scheduler_bytes,
        worker_bytes=None if engine == "process pool" else 4321,
        stored_bytes=123_456_789 if by_proxy else 0,
        stored_objects=77 if by_proxy else 0,
        baseline_memory=101_000_000,
        peak_memory=peak,
        trace=trace,
        check="1.3e-16 & less",
        digest=digest,
    )


def report(*, engines_count: bool = True, digest: str = "d1") -> Report:
    """Faster, slower and equal pairs; optionally an engine whose bytes cannot be counted."""
    dask = 239_000_000 if engines_count else None
    less = 322_000 if engines_count else None
    return Report(
        when="2026-01-02T03:04:05",
        command="isthmus demo --workers 2",
        seconds=38.25,
        workers=2,
        interval=0.05,
        machine={"System": "Linux <5.15>", "Cores": "2 of 2"},
        versions={"isthmus": "0.1.0", "numpy": "2.4.6"},
        workloads=[
            Workload("words", "Word frequencies", "734 files & 12.1 MB.", "Text moves."),
            Workload("cholesky", "Tiled Cholesky", "A 3584 × 3584 matrix.", "Tiles move."),
        ],
        measured=[
            measured("words", "process pool", False, [0.5, 0.52, 0.51], 16_300_000, 212_000_000),
            measured("words", "process pool", True, [0.51, 0.53, 0.49], 27_400, 192_000_000),
            measured("words", "Dask", False, [0.4, 0.42, 0.41], dask, 300_000_000),
            measured("words", "Dask", True, [0.8, 0.82, 0.81], less, 390_000_000),
            measured("cholesky", "process pool", False, [2.0, 2.4, 2.2], 587_000_000, 712_000_000),
            measured("cholesky", "process pool", True, [0.9, 1.1, 1.0], 94_700, 547_000_000),
            measured("cholesky", "Dask", False, [1.7, 1.9, 1.8], dask, 1_500_000_000),
            measured("cholesky", "Dask", True, [1.1, 1.2, 1.0], less, 620_000_000, digest),
        ],
    )


class Page(HTMLParser):
    """Parses strictly: every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_verdicts() -> None:
    words_pool, words_dask, cholesky_pool, cholesky_dask = report().comparisons()
    assert words_pool.verdict == "equal"
    assert words_pool.headline == "no clear difference"
    assert (words_dask.verdict, words_dask.headline) == ("slower", "1.98× slower")
    assert (cholesky_pool.verdict, cholesky_pool.headline) == ("faster", "2.2× faster")
    assert cholesky_dask.scheduler_ratio == pytest.approx(239_000_000 / 322_000)
    assert words_dask.memory_ratio == pytest.approx(1.3)


def test_a_difference_below_two_percent_is_none_even_if_no_runs_overlap() -> None:
    close = report()
    close.measured[0].makespans[:] = [1.0, 1.001]
    close.measured[1].makespans[:] = [0.99, 0.991]
    assert close.comparisons()[0].verdict == "equal"


def test_losses_are_told() -> None:
    lost = [line for pair in report().comparisons() for line in pair.losses()]
    assert len(lost) == 3
    assert "overlap" in lost[0]
    assert "1.98× slower" in lost[1]
    assert "peak memory is 1.30×" in lost[2]


def test_agreement_is_of_each_workload() -> None:
    assert report().agree()
    assert not report(digest="another").agree()


def test_factors() -> None:
    assert [times_text(f) for f in (1.005, 1.25, 2.449, 99.94, 743.4, 6203)] == [
        "1.00×",
        "1.25×",
        "2.4×",
        "99.9×",
        "743×",
        "6,203×",
    ]


@pytest.mark.parametrize("engines_count", [True, False])
def test_page_is_well_formed_and_needs_nothing_else(engines_count: bool) -> None:
    text = page(report(engines_count=engines_count))
    parsed = Page(text)
    assert parsed.open == []
    assert not re.search(r"(?i)https?:|url\(|@import|<script|<link|<img|<iframe", text)
    assert ("html", {"lang": "en"}) in parsed.tags
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_page_has_every_figure() -> None:
    told = report()
    text = Page(page(told)).text
    for m in told.measured:
        assert seconds_text(m.makespan) in text
        for run in m.makespans:
            assert f"{run:.2f}" in text
        assert m.scheduler_bytes is not None
        assert bytes_text(m.scheduler_bytes) in text
        assert bytes_text(m.peak_memory) in text
    for pair in told.comparisons():
        assert pair.headline in text
        for line in pair.losses():
            assert line in text
    for word in (
        *told.machine.values(),
        *told.versions.values(),
        told.command,
        "734 files & 12.1 MB.",
    ):
        assert word in text
    assert "1.3e-16 & less" in text
    assert "bit for bit" in text
    assert "every 50 ms" in text


def test_plots_can_be_heard() -> None:
    tags = Page(page(report())).tags
    plots = [attributes for tag, attributes in tags if tag == "svg"]
    assert len(plots) == 8
    for attributes in plots:
        assert attributes["role"] == "img"
        label = attributes["aria-label"]
        assert label is not None
        assert re.search(r"by proxy:? \d", label)
    assert sum(tag == "th" and a.get("scope") == "col" for tag, a in tags) == 10


def test_plots_stay_inside_their_frames() -> None:
    text = page(report())
    for width, height, inside in re.findall(
        r'<svg viewBox="0 0 (\d+) ([\d.]+)".*?>(.*?)</svg>', text
    ):
        for x in re.findall(r' (?:x|cx|x1|x2)="([\d.-]+)"', inside):
            assert 0 <= float(x) <= float(width)
        for y in re.findall(r' (?:y|cy|y1|y2)="([\d.-]+)"', inside):
            assert 0 <= float(y) <= float(height)


def test_page_says_when_results_differ() -> None:
    text = Page(page(report(digest="another"))).text
    assert "did NOT give the same result" in text
    assert "gave the same result" not in text


def test_terminal_tells_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told = report()
    terminal.show(told)
    text = capsys.readouterr().out
    assert all(len(line) <= 80 for line in text.splitlines())
    for m in told.measured:
        assert seconds_text(m.makespan) in text
        assert bytes_text(m.scheduler_bytes or 0) in text
        assert bytes_text(m.peak_memory) in text
    assert "1.98× slower" in text
    assert "bit for bit" in text
    assert "Where the proxy does not win" in text


def test_json_has_figures_and_verdicts() -> None:
    built = json.loads(json.dumps(report().as_dict()))
    assert len(built["measured"]) == 8
    assert [c["verdict"] for c in built["comparisons"]] == ["equal", "slower", "faster", "faster"]
    assert built["results_agree"] is True
