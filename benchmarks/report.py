"""From a section's results to JSON with every sample, and from all sections' JSON to `RESULTS.md`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import SECONDS, Result
from benchmarks.peers import HERE
from benchmarks.stats import spread

HOME = Path(__file__).parent
OUT = HOME / "out"  # every run
RESULTS = HOME / "results"  # the published run of each section
NOTES = HOME / "notes.toml"

MARKS = {"met": "met", "missed": "**missed**", "not judged": "–"}


def as_json(
    title: str, machine: dict[str, Any], results: list[Result], *, quick: bool
) -> dict[str, Any]:
    """Return all that a section's run found, raw samples included."""
    return {
        "title": title,
        "quick": quick,
        "machine": machine,
        "cases": [
            {
                "name": r.case.name,
                "unit": r.case.unit,
                "samples": r.samples,
                "errors": r.errors,
                "targets": [
                    {
                        "text": j.target.text(r.case.unit),
                        "relative": j.target.of is not None,
                        "percent": j.target.below is not None,
                        "estimate": j.estimate,
                        "verdict": j.verdict,
                    }
                    for j in r.judged()
                ],
            }
            for r in results
        ],
    }


def save(section: str, data: dict[str, Any], *, publish: bool) -> None:
    """Keep a section's run; if `publish`, as the one that `RESULTS.md` shows."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    for folder in (OUT, RESULTS) if publish else (OUT,):
        folder.mkdir(exist_ok=True)
        (folder / f"{section}.json").write_text(text + "\n")


def number(value: float) -> str:
    """Three figures, without exponents."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def amount(value: float, unit: str) -> str:
    """A figure with the unit that reads best."""
    if unit in SECONDS:
        seconds = value / SECONDS[unit]
        unit = next((u for u in ("s", "ms", "µs") if seconds * SECONDS[u] >= 1), "ns")
        value = seconds * SECONDS[unit]
    elif unit == "B" and value >= 1e4:
        value, unit = (value / 1e6, "MB") if value >= 1e6 else (value / 1e3, "kB")
    return f"{number(value)} {unit}".rstrip()


def shown(case: dict[str, Any], side: str) -> str:
    """Return the median and the spread of one side, or what failed."""
    if side in case["samples"]:
        samples = case["samples"][side]
        percent = 100 * spread(samples) / abs(median(samples)) if median(samples) else 0
        return amount(median(samples), case["unit"]) + (
            f" ±{percent:.0f} %" if percent >= 1 else ""
        )
    return case["errors"].get(side, "–").split(":")[0]


def rows(case: dict[str, Any]) -> list[list[str]]:
    """Return one table row a target (one without a verdict if there is none)."""
    sides = [s for s in {**case["samples"], **case["errors"]} if s != HERE]
    against = ", ".join(f"{side} {shown(case, side)}" for side in sides) or "–"
    ours = shown(case, HERE)
    table = []
    for target in case["targets"]:
        figure = "–"
        if target["estimate"]:
            mid, low, high = target["estimate"]
            unit = "%" if target.get("percent") else case["unit"]
            figure = f"{number(mid)}×" if target["relative"] else amount(mid, unit)
            if number(low) != number(high):
                figure += f" [{number(low)}, {number(high)}]"
        verdict = MARKS.get(target["verdict"], target["verdict"])
        table.append([case["name"], ours, against, figure, target["text"], verdict])
    return table or [[case["name"], ours, against, "–", "–", "–"]]


HEAD = ["operation", "isthmus", "references", "figure [95 %]", "target", "verdict"]


def section_markdown(section: str, data: dict[str, Any], notes: dict[str, str]) -> str:
    """Return one section of `RESULTS.md`: where it was measured, the table, the reasons."""
    m = data["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in {**m["versions"], **m["peers"]}.items())
    lines = [
        f"## {data['title']}",
        "",
        f"`python -m benchmarks.{section}`, {m['date'][:10]}, {m['python']}, {m['processor']}, "
        f"{m['cores']} cores, {m['memory_gb']} GB, Linux {m['kernel']}, load {m['load'][0]}, "
        f"commit {m['commit']}; {versions}."
        + (" A quick run: few rounds." if data["quick"] else ""),
        "",
        "| " + " | ".join(HEAD) + " |",
        "|" + "---|" * len(HEAD),
    ]
    unmet: dict[str, None] = {}
    for case in data["cases"]:
        lines += [
            "| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in rows(case)
        ]
        if any(t["verdict"] not in ("met", "not judged") for t in case["targets"]):
            unmet[case["name"]] = None
    if unmet:
        lines += ["", "What is not met, and why:", ""]
        lines += [f"- **{name}**: {notes.get(name, '(reason not written yet)')}" for name in unmet]
    return "\n".join(lines)


def missing_notes(section: str, data: dict[str, Any]) -> list[str]:
    """Return the missed cases for which `notes.toml` gives no reason."""
    notes = load_notes().get(section, {})
    missed = [
        c["name"] for c in data["cases"] if any(t["verdict"] == "missed" for t in c["targets"])
    ]
    return [name for name in missed if name not in notes]


def load_notes() -> dict[str, dict[str, str]]:
    """Return the hand-written reasons, by section and case."""
    return tomllib.loads(NOTES.read_text()) if NOTES.exists() else {}


INTRODUCTION = """\
# Results

Every figure is the median of several rounds in which isthmus and its references ran in turn, with the
interquartile range in percent. A figure against a reference is the median of the rounds' ratios (or
differences) with its bootstrap interval; *met* and *missed* mean that the whole interval lies on that
side of the target, *inconclusive* that the noise does not tell. `README.md` says how to measure again. This
file is written by `python -m benchmarks.run --write`; the reasons come from `notes.toml`.
"""


def write_markdown(sections: list[str]) -> Path:
    """Write `RESULTS.md` from the published run of each section."""
    notes = load_notes()
    parts, count = [], {}
    for section in sections:
        path = RESULTS / f"{section}.json"
        if path.exists():
            data = json.loads(path.read_text())
            parts.append(section_markdown(section, data, notes.get(section, {})))
            for case in data["cases"]:
                for target in case["targets"]:
                    if target["verdict"] != "not judged":
                        count[target["verdict"]] = count.get(target["verdict"], 0) + 1
    total = ", ".join(f"{n} {verdict}" for verdict, n in sorted(count.items()))
    target = HOME / "RESULTS.md"
    summary = f"{sum(count.values())} targets: {total}.\n" if count else ""
    target.write_text("\n\n".join(p.rstrip() for p in [INTRODUCTION, summary, *parts] if p) + "\n")
    return target
