"""How the demo measures, in sentences: the page and the documentation say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isthmus.cli.demo.report import Report

__all__ = ["method"]


def method(report: Report) -> list[str]:
    """Return the method of one report, a sentence or two for each quantity."""
    runs = sorted({len(m.makespans) for m in report.measured})
    times = " to ".join(str(n) for n in dict.fromkeys((runs[0], runs[-1])))
    return [
        f"Every variant ran in a fresh interpreter with a fresh pool of {report.workers} workers, by value "
        "before by proxy, so that none is warmed by another. Its workers were started and had imported "
        "what they need before the clock ran (start-up is given by itself); the first run is cold for its "
        f"data, the later ones reuse its memory. {times} runs each; the table gives them all.",
        "Makespan is the wall-clock time from the first submission to the last result in the client's "
        "hands. Making the input and checking the result are outside it.",
        "Faster or slower is said only where no run of one variant is as fast as any of the other, and the "
        "medians differ by more than 2 %. A few runs on one machine are a demonstration, no benchmark: "
        "make bench measures with repeats, intervals and peers.",
        "Bytes through the scheduler are counted, not estimated: on the process pool, what its client "
        "wrote into and read from the pool's pipes; on Dask, what the kernel says that the scheduler's TCP "
        "connections sent and received (client and workers; headers and heartbeats included).",
        "Memory is the proportional set size of all processes of the variant plus what its shared memory "
        f"holds, each page counted once, sampled every {report.interval * 1000:.0f} ms by another process; "
        "a peak shorter than that is missed.",
        "BLAS runs on one thread in every worker.",
    ]
