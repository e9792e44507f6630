"""The report as one HTML page that needs nothing else: no network, no scripts, no other file."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING

from isthmus.cli.demo import plots
from isthmus.cli.demo.method import method
from isthmus.cli.demo.report import Comparison, Measured, Report, times_text
from isthmus.cli.quantities import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["page"]

LEGEND = (
    '<p class="legend"><span><i class="value"></i>by value</span>'
    '<span><i class="proxy"></i>by proxy</span>{more}</p>'
)


def page(report: Report) -> str:
    """Return the whole page."""
    pairs = report.comparisons()
    body = "\n".join(
        [
            _header(report, pairs),
            _cards(pairs),
            _makespans(pairs),
            _scheduler(pairs),
            _memory(pairs),
            _table(report),
            _losses(pairs),
            _method(report),
            _facts(report),
        ]
    )
    style = files("isthmus.cli.demo").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>isthmus demo, {escape(report.when[:10])}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(report: Report, pairs: Sequence[Comparison]) -> str:
    best = max(pairs, key=lambda p: p.scheduler_ratio or 0)
    saved = (
        f" At best the scheduler carried {times_text(best.scheduler_ratio)} fewer bytes "
        f"({best.workload.title}, {best.value.engine}: "
        f"{bytes_text(best.value.scheduler_bytes or 0)} by value, "
        f"{bytes_text(best.proxy.scheduler_bytes or 0)} by proxy)."
        if best.scheduler_ratio and best.scheduler_ratio > 1
        else ""
    )
    return (
        "<header><h1>Data by value, data by proxy</h1>"
        '<p class="lead">The same tasks on the same engines. Only the way of the data differs: through '
        "the scheduler with every task, or straight through shared memory while the scheduler carries "
        f"references. By proxy {_count_verdicts(pairs)}.{saved}</p>"
        f'<p class="meta">isthmus {escape(report.versions.get("isthmus", ""))} · '
        f"{escape(report.when.replace('T', ' '))} UTC · {report.workers} workers · "
        f"whole demo {seconds_text(report.seconds)}</p></header>"
    )


def _count_verdicts(pairs: Sequence[Comparison]) -> str:
    verdicts = [p.verdict for p in pairs]
    phrases = [
        f"{words} in {verdicts.count(verdict)}"
        for verdict, words in (
            ("faster", "was faster"),
            ("slower", "was slower"),
            ("equal", "made no clear difference"),
        )
        if verdict in verdicts
    ]
    *most, last = phrases
    listed = f"{', '.join(most)} and {last}" if most else last
    return f"{listed} of {len(pairs)} cases"


def _cards(pairs: Iterable[Comparison]) -> str:
    cards = "".join(
        f'<div class="card {p.verdict}"><p class="where">{escape(p.workload.title)}<br>'
        f'{_engine(p.value)}</p><p class="verdict">{p.headline}</p>'
        f'<p class="times"><span class="dot value"></span>{seconds_text(p.value.makespan)} by value<br>'
        f'<span class="dot proxy"></span>{seconds_text(p.proxy.makespan)} by proxy</p></div>'
        for p in pairs
    )
    return f'<section aria-label="In short"><div class="cards">{cards}</div></section>'


def _section(title: str, words: str, inside: str) -> str:
    return f"<section><h2>{title}</h2><p>{words}</p>{inside}</section>"


def _panels(panels: Iterable[tuple[str, str]]) -> str:
    figures = "".join(
        f'<figure class="panel"><h3>{escape(title)}</h3>{svg}</figure>' for title, svg in panels
    )
    return f'<div class="grid">{figures}</div>'


def _by_workload(pairs: Sequence[Comparison]) -> list[tuple[str, list[Comparison]]]:
    return [(title, list(group)) for title, group in groupby(pairs, lambda p: p.workload.title)]


def _makespans(pairs: Sequence[Comparison]) -> str:
    legend = LEGEND.format(more='<span><i class="run"></i>one run; the bar is the median</span>')
    panels = _panels((title, plots.makespans(group)) for title, group in _by_workload(pairs))
    words = (
        "Time from the first submission to the last result in the client's hands. Less is better."
    )
    return _section("Makespan", words, legend + panels)


def _scheduler(pairs: Sequence[Comparison]) -> str:
    groups = [
        (title, [p for p in group if p.value.scheduler_bytes and p.proxy.scheduler_bytes])
        for title, group in _by_workload(pairs)
    ]
    panels = _panels((title, plots.scheduler_bytes(group)) for title, group in groups if group)
    words = (
        "What one run moved into and out of the process that schedules, counted on its pipes and sockets. "
        "The axis is logarithmic: each line is a factor of ten."
    )
    return _section("Bytes through the scheduler", words, panels)


def _memory(pairs: Sequence[Comparison]) -> str:
    most = max(m.peak_memory for p in pairs for m in (p.value, p.proxy))
    panels = _panels(
        (f"{p.workload.title}, {p.value.engine}", plots.memory(p, most)) for p in pairs
    )
    words = (
        "Client, scheduler, workers and shared memory together, each page counted once, over all runs of a "
        "variant one after another; the dot is the peak. By value is dashed."
    )
    return _section("Memory", words, LEGEND.format(more="") + panels)


COLUMNS = (
    ("Application", True),
    ("Engine", True),
    ("Data", True),
    ("Makespan", False),
    ("Against by value", False),
    ("Through the scheduler", False),
    ("Worker to worker", False),
    ("Through shared memory", False),
    ("Peak memory", False),
    ("Start-up", False),
)


def _table(report: Report) -> str:
    head = "".join(
        f'<th scope="col"{" class=words" if words else ""}>{name}</th>' for name, words in COLUMNS
    )
    rows = "".join(_rows(group) for _, group in _by_workload(report.comparisons()))
    checks = "".join(
        f"<li>{escape(w.title)}: {escape(report.check(w))}</li>" for w in report.workloads
    )
    agreed = report.agree()
    says = (
        "Every result was checked, and all variants of an application gave the same result, bit for bit."
        if agreed
        else "The variants of an application did NOT give the same result."
    )
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-label="All figures"><table>'
        "<caption>Makespan is the median of the runs below it, which are in order. Bytes are those of "
        "one run. Below the peak of memory is what the variant held before its first run.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    workloads = "".join(
        f"<li><strong>{escape(w.title)}</strong>: {escape(w.what)} {escape(w.moves)}</li>"
        for w in report.workloads
    )
    return (
        f"<section><h2>All figures</h2><ul>{workloads}</ul>{table}"
        f'<p class="checked{"" if agreed else " wrong"}">{"✓" if agreed else "✗"} {says}</p>'
        f"<ul>{checks}</ul></section>"
    )


def _rows(pairs: Sequence[Comparison]) -> str:
    """Return the rows of one application; its name and its engines' names span theirs."""
    title = escape(pairs[0].workload.title)
    name = f'<th scope="rowgroup" rowspan="{2 * len(pairs)}" class="words">{title}</th>'
    rows = []
    for pair in pairs:
        engine = f'<td rowspan="2" class="words">{_engine(pair.value)}</td>'
        rows.append(f"<tr>{name}{engine}{_cells(pair, pair.value)}</tr>")
        rows.append(f"<tr>{_cells(pair, pair.proxy)}</tr>")
        name = ""
    return "".join(rows)


def _cells(pair: Comparison, measured: Measured) -> str:
    kind = "proxy" if measured.by_proxy else "value"
    shade = {"faster": "faster-text", "slower": "slower-text", "equal": "soft"}[pair.verdict]
    runs = " · ".join(f"{t:.2f}" for t in measured.makespans)
    cells = (
        f"{seconds_text(measured.makespan)}<small>{runs} s</small>",
        f'<span class="{shade}">{pair.headline}</span>' if measured.by_proxy else "–",
        _count(measured.scheduler_bytes),
        _count(measured.worker_bytes),
        bytes_text(measured.stored_bytes) if measured.by_proxy else "–",
        f"{bytes_text(measured.peak_memory)}<small>from {bytes_text(measured.baseline_memory)}</small>",
        seconds_text(measured.startup),
    )
    numbers = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<td class="words"><span class="dot {kind}"></span>{measured.data}</td>{numbers}'


def _engine(measured: Measured) -> str:
    return escape(measured.engine[:1].upper() + measured.engine[1:])


def _count(count: int | None) -> str:
    return "–" if count is None else bytes_text(count)


def _losses(pairs: Iterable[Comparison]) -> str:
    lost = [escape(sentence) for pair in pairs for sentence in pair.losses()]
    items = "".join(f"<li>{sentence}</li>" for sentence in lost)
    inside = f"<ul>{items}</ul>" if lost else ""
    words = (
        "A proxy costs something for every object, so it pays only where moving the data costs more."
        if lost
        else "In none of these pairs. Expect it with small objects, and where the engine moves little data."
    )
    return _section("Where the proxy does not win", words, inside)


def _method(report: Report) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in method(report))
    return (
        f"<section><h2>What was measured, and how</h2><ul>{items}</ul>"
        f"<p>Run it again:</p><pre>{escape(report.command)}</pre></section>"
    )


def _facts(report: Report) -> str:
    facts = {**report.machine, **{name: f"{v}" for name, v in report.versions.items()}}
    listing = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in facts.items())
    return f'<section><h2>Machine and versions</h2><div class="panel"><dl>{listing}</dl></div></section>'
