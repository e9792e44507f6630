"""The demo in a terminal: a line for each variant while it runs, and one table at the end."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from isthmus.cli.demo.conduct import ENGINES
from isthmus.cli.demo.events import Begun, Ended, Progress, Ready
from isthmus.cli.quantities import bytes_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from rich.progress import TaskID

    from isthmus.cli.demo.events import Event, Plan
    from isthmus.cli.demo.report import Comparison, Measured, Report

__all__ = ["Live", "show"]

STYLE = {"faster": "green", "slower": "red", "equal": "dim"}


class Live:
    """Shows progress on stderr: live bars in a terminal, a line a variant elsewhere.

    Args:
        titles: of the workloads, by name.
    """

    def __init__(self, titles: Mapping[str, str]) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._titles = titles
        self._tasks = 0
        self._row: TaskID | None = None
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def started(self, plan: Plan) -> None:
        """Add a line."""
        self._tasks = 0
        self._row = self._bars.add_task(self._name(plan), total=None, state="starting workers")

    def heard(self, plan: Plan, event: Event) -> None:
        """Bring the line up to date."""
        if self._row is None:
            return
        if isinstance(event, Ready):
            self._bars.update(self._row, state="reading input")
        elif isinstance(event, Begun):
            total = self._tasks or None
            self._bars.reset(self._row, total=total, state=f"run {event.run + 1} of {plan.runs}")
        elif isinstance(event, Progress):
            self._bars.update(self._row, completed=event.tasks)
        elif isinstance(event, Ended):
            self._tasks = event.tasks
            self._bars.update(self._row, state=f"{seconds_text(event.makespan)}, checked")

    def finished(self, plan: Plan, measured: Measured) -> None:
        """Complete the line."""
        state = (
            f"{seconds_text(measured.makespan)}, median of {len(measured.makespans)} runs, checked"
        )
        if self._row is not None:
            self._bars.update(self._row, total=1, completed=1, state=state)
        if not self.console.is_terminal:
            self.console.print(f"{self._name(plan)}  {state}")

    def _name(self, plan: Plan) -> str:
        data = "by proxy" if plan.by_proxy else "by value"
        return f"{self._titles[plan.workload]:<16}  {ENGINES[plan.engine]:<12}  {data}"


def show(report: Report) -> None:
    """Print the table and what follows from it on stdout."""
    console = Console(highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("", "data"):
        table.add_column(name, no_wrap=True)
    for name in ("makespan", "against by value", "scheduler", "peak memory"):
        table.add_column(name, justify="right")
    for title, pairs in groupby(report.comparisons(), lambda p: p.workload.title):
        table.add_row(Text(title, style="bold"))
        for pair in pairs:
            for measured in (pair.value, pair.proxy):
                table.add_row(*_row(pair, measured))
        table.add_section()
    console.print(table)
    for line in _remarks(report):
        console.print(line)


def _row(pair: Comparison, measured: Measured) -> tuple[str | Text, ...]:
    words = "unclear" if pair.verdict == "equal" else pair.headline
    verdict = Text(words, style=STYLE[pair.verdict]) if measured.by_proxy else ""
    engine = "" if measured.by_proxy else f"  {measured.engine}"
    return engine, measured.data, seconds_text(measured.makespan), verdict, *_sizes(measured)


def _sizes(measured: Measured) -> tuple[str, str]:
    carried = measured.scheduler_bytes
    return "not known" if carried is None else bytes_text(carried), bytes_text(measured.peak_memory)


def _remarks(report: Report) -> Iterator[str]:
    for workload in report.workloads:
        yield f"[bold]{workload.title}[/]: {workload.what} {report.check(workload)}."
    if report.agree():
        yield "[green]✓[/] All variants of an application gave the same result, bit for bit."
    else:
        yield "[red]✗ The variants of an application did not give the same result.[/]"
    lost = [sentence for pair in report.comparisons() for sentence in pair.losses()]
    if lost:
        yield "[bold]Where the proxy does not win[/]"
        yield from (f"  - {sentence}" for sentence in lost)
