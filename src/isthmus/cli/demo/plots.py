"""Inline SVG for the page: bars, pairs on a logarithmic axis, and lines over time.

Colours are classes of the page's style sheet, so that a plot follows light, dark and paper. Every mark
that carries a figure also has it in writing; no plot needs its colours to be read.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from isthmus.cli.quantities import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isthmus.cli.demo.report import Comparison, Measured, Sample

__all__ = ["makespans", "memory", "scheduler_bytes"]

WIDTH = 480
LEFT = 74
RIGHT = 74


class _Scale(NamedTuple):
    """From a quantity to a place between two pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, low))
        return round(self.start + (self.end - self.start) * (at - low) / (high - low), 1)


def makespans(pairs: Sequence[Comparison]) -> str:
    """Draw the median run of each variant as a bar, and every run as a dot on it."""
    most = max(t for p in pairs for m in (p.value, p.proxy) for t in m.makespans)
    ticks = _ticks(most)
    scale = _Scale(0, max(ticks[-1], most), LEFT, WIDTH - RIGHT)
    parts: list[str] = []
    y = 4
    for pair in pairs:
        parts.append(_text(0, y + 14, _engine(pair), "engine"))
        y += 24
        for measured in (pair.value, pair.proxy):
            parts.append(_bar(measured, scale, y))
            y += 26
        y += 14
    bottom = y - 8
    grid = _grid(ticks, scale, 24, bottom, lambda t: f"{t:g} s")
    title = f"Makespan of {pairs[0].workload.title}"
    said = "; ".join(
        f"{m.engine} {m.data}: {seconds_text(m.makespan)}"
        for p in pairs
        for m in (p.value, p.proxy)
    )
    return _svg(title, said, bottom + 22, [*grid, *parts])


def _bar(measured: Measured, scale: _Scale, y: float) -> str:
    kind = _kind(measured)
    end = scale(measured.makespan)
    width = round(max(1.0, end - LEFT), 1)
    dots = "".join(
        f'<circle class="run" cx="{scale(t)}" cy="{y + 9}" r="2.6"/>' for t in measured.makespans
    )
    furthest = max(end, *(scale(t) + 4 for t in measured.makespans))
    return (
        _text(LEFT - 10, y + 13, measured.data, "label", "end")
        + f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{width}" height="18" rx="3"/>'
        + dots
        + _text(furthest + 7, y + 13.5, seconds_text(measured.makespan), "figure")
    )


def scheduler_bytes(pairs: Sequence[Comparison]) -> str:
    """Draw the bytes through the scheduler by value and by proxy as the ends of one line."""
    known = [m.scheduler_bytes for p in pairs for m in (p.value, p.proxy) if m.scheduler_bytes]
    low = 10 ** math.floor(math.log10(min(known) * 0.8))
    high = 10 ** math.ceil(math.log10(max(known) * 1.2))
    scale = _Scale(low, high, 34, WIDTH - 34, log=True)
    ticks = [low * 10**n for n in range(round(math.log10(high / low)) + 1)]
    parts: list[str] = []
    y = 4
    for pair in pairs:
        value, proxy = pair.value.scheduler_bytes, pair.proxy.scheduler_bytes
        parts.append(_text(0, y + 14, _engine(pair), "engine"))
        if pair.scheduler_ratio is not None:
            less = f"{_ratio(pair.scheduler_ratio)} fewer" if pair.scheduler_ratio > 1 else "more"
            parts.append(_text(WIDTH, y + 14, f"{less} by proxy", "note", "end"))
        if value and proxy:
            ends = sorted([(scale(value), "value", value), (scale(proxy), "proxy", proxy)])
            middle = y + 42
            parts.append(
                f'<line class="join" x1="{ends[0][0]}" y1="{middle}" x2="{ends[1][0]}" y2="{middle}"/>'
            )
            for x, kind, count in ends:
                parts.append(f'<circle class="{kind}" cx="{x}" cy="{middle}" r="7"/>')
                anchor = "start" if x < 80 else "end" if x > WIDTH - 80 else "middle"
                shift = {"start": -8, "middle": 0, "end": 8}[anchor]
                words = f"by {kind} {bytes_text(count)}"
                parts.append(_text(x + shift, middle + 24, words, "figure", anchor))
        y += 88
    bottom = y - 4
    grid = _grid(ticks, scale, 24, bottom, bytes_text)
    title = f"Bytes through the scheduler in one run of {pairs[0].workload.title}, logarithmic"
    said = "; ".join(
        f"{m.engine} {m.data}: {bytes_text(m.scheduler_bytes or 0)}"
        for p in pairs
        for m in (p.value, p.proxy)
    )
    return _svg(title, said, bottom + 22, [*grid, *parts])


def memory(pair: Comparison, most: float) -> str:
    """Draw the memory of both variants over time, up to `most` bytes so that panels compare."""
    ticks = [t * 1e6 for t in _ticks(most / 1e6)]
    end = max(s.at for m in (pair.value, pair.proxy) for s in m.trace)
    times = _ticks(end)
    across = _Scale(0, max(end, times[-1]), 58, WIDTH - 14)
    top, bottom = 30, 180
    up = _Scale(0, max(ticks[-1], most), bottom, top)
    parts = [
        f'<line class="grid" x1="58" y1="{up(t)}" x2="{WIDTH - 14}" y2="{up(t)}"/>'
        + _text(50, up(t) + 4, bytes_text(t) if t else "0", "tick", "end")
        for t in ticks
    ]
    parts += [_text(across(t), bottom + 18, f"{t:g} s", "tick", "middle") for t in times]
    for measured, x, anchor in ((pair.value, 58, "start"), (pair.proxy, WIDTH - 14, "end")):
        kind = _kind(measured)
        points = " ".join(f"{across(s.at)},{up(s.total)}" for s in _thinned(measured.trace))
        parts.append(f'<polyline class="{kind} trace" points="{points}"/>')
        peak = max(measured.trace, key=lambda s: s.total)
        parts.append(
            f'<circle class="{kind}" cx="{across(peak.at)}" cy="{up(peak.total)}" r="4.5"/>'
        )
        words = f"{measured.data}: peak {bytes_text(measured.peak_memory)}"
        parts.append(_text(x, 12, words, f"figure {kind}", anchor))
    title = f"Memory over time: {pair.workload.title}, {pair.value.engine}"
    said = "; ".join(f"peak {m.data} {bytes_text(m.peak_memory)}" for m in (pair.value, pair.proxy))
    return _svg(title, said, bottom + 26, parts)


def _thinned(trace: Sequence[Sample], most: int = 240) -> list[Sample]:
    """Keep the greatest of each few samples: a screen has no more pixels."""
    step = max(1, len(trace) // most)
    return [max(trace[i : i + step], key=lambda s: s.total) for i in range(0, len(trace), step)]


def _engine(pair: Comparison) -> str:
    return pair.value.engine[:1].upper() + pair.value.engine[1:]


def _kind(measured: Measured) -> str:
    return "proxy" if measured.by_proxy else "value"


def _ratio(factor: float) -> str:
    return f"{factor:,.0f}×" if factor >= 10 else f"{factor:.1f}×"


def _ticks(most: float) -> list[float]:
    """Return three to six round numbers from 0 to at least `most`."""
    rough = most / 4
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough)
    return [step * n for n in range(math.ceil(most / step - 1e-9) + 1)]


def _grid(
    ticks: Sequence[float],
    scale: _Scale,
    top: float,
    bottom: float,
    text: Callable[[float], str],
) -> list[str]:
    return [
        f'<line class="grid" x1="{scale(t)}" y1="{top}" x2="{scale(t)}" y2="{bottom}"/>'
        + _text(scale(t), bottom + 17, text(t) if t else "0", "tick", "middle")
        for t in ticks
    ]


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, said: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}: {escape(said)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
