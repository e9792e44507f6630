"""The demo's two applications: made of the benchmark suite's tasks, with data that a client holds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from isthmus.cli.quantities import bytes_text
from isthmus.errors import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from isthmus.bench.engine import Engine

__all__ = ["WORKLOADS", "Cholesky", "Words", "Workload", "standard_library"]


class Workload(Protocol):
    """One application; made with its sizes, outside the clock."""

    name: ClassVar[str]
    title: ClassVar[str]
    moves: ClassVar[str]
    full: ClassVar[dict[str, int]]
    """Sizes of an ordinary demo."""
    quick: ClassVar[dict[str, int]]
    what: str
    """The input in a sentence."""

    def __init__(self, sizes: dict[str, int]) -> None:
        """Make or read the input."""
        ...

    def run(self, engine: Engine) -> Any:
        """Run all tasks and return the result, whole, in this process: this is what the clock times."""
        ...

    def check(self, result: Any) -> str:
        """Check a result; return the figure.

        Raises:
            VerificationError: it is wrong.
        """
        ...

    def digest(self, result: Any) -> str:
        """Return what two results have in common only if they are the same to the last bit."""
        ...


class Words:
    """Word frequencies over the sources of the Python standard library."""

    name: ClassVar[str] = "words"
    title: ClassVar[str] = "Word frequencies"
    moves: ClassVar[str] = (
        "The text itself travels with the tasks, and a table of counts comes back from each."
    )
    full: ClassVar[dict[str, int]] = {"bytes": 1 << 30, "tasks": 24}
    quick: ClassVar[dict[str, int]] = {"bytes": 2_000_000, "tasks": 8}

    def __init__(self, sizes: dict[str, int]) -> None:
        from isthmus.bench.apps.mapreduce import WORD

        texts: list[str] = []
        read = 0
        for path in standard_library():
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
            read += len(texts[-1])
            if read >= sizes["bytes"]:
                break
        if not texts:
            raise BrokenError(
                "the demo", "no sources of the Python standard library were found here"
            )
        self.parts = _shared_out(texts, sizes["tasks"])
        # Counted here as well, in one pass and without the tasks' code for adding up.
        self.expected = sum(sum(1 for _ in WORD.finditer(text.lower())) for text in self.parts)
        self.what = (
            f"{len(texts)} source files of the Python standard library, {bytes_text(read)} of text, "
            f"in {len(self.parts)} map tasks and one that adds up."
        )

    def run(self, engine: Engine) -> Any:
        """Count each part; add up."""
        from isthmus.bench.apps.mapreduce import count_text, merge

        return engine.submit(
            merge, [engine.submit(count_text, part) for part in self.parts]
        ).result()

    def check(self, result: Any) -> str:
        """Compare the total, and the sum of all frequencies, with a count made by the client alone."""
        from isthmus.errors import VerificationError

        for found in (result.total, sum(result.words.values())):
            if found != self.expected:
                raise VerificationError(self.name, f"{found} words", f"{self.expected}")
        return f"{self.expected:,} words counted, as many as the client finds by itself"

    def digest(self, result: Any) -> str:
        """Hash all words with their frequencies."""
        listing = "\n".join(f"{word} {count}" for word, count in sorted(result.words.items()))
        return hashlib.sha256(listing.encode()).hexdigest()


class Cholesky:
    """A tiled Cholesky factorization."""

    name: ClassVar[str] = "cholesky"
    title: ClassVar[str] = "Tiled Cholesky"
    moves: ClassVar[str] = (
        "Every task takes one to three tiles and gives one, which later tasks take."
    )
    full: ClassVar[dict[str, int]] = {"matrix": 3584, "tile": 512}
    quick: ClassVar[dict[str, int]] = {"matrix": 1024, "tile": 256}

    def __init__(self, sizes: dict[str, int]) -> None:
        from isthmus.bench.apps.cholesky import CholeskyApp, positive_definite

        size, tile = sizes["matrix"], sizes["tile"]
        self.app = CholeskyApp(size, tile)
        self.matrix = positive_definite(size, seed=0)
        count = -(-size // tile)
        tasks = count + count * (count - 1) + count * (count - 1) * (count - 2) // 6
        self.what = (
            f"A {size} × {size} matrix ({bytes_text(self.matrix.nbytes)}) in tiles of {tile} × {tile} "
            f"({bytes_text(8 * tile * tile)}), {tasks} tasks."
        )

    def run(self, engine: Engine) -> Any:
        """Factor, and gather the factor."""
        return self.app.factor(engine, self.matrix)

    def check(self, result: Any) -> str:
        """Multiply the factor with its transpose and compare."""
        import numpy as np

        from isthmus.bench.apps.cholesky import TOLERANCE
        from isthmus.errors import VerificationError

        residual = float(
            np.linalg.norm(self.matrix - result @ result.T) / np.linalg.norm(self.matrix)
        )
        if not residual <= TOLERANCE:
            raise VerificationError(
                self.name, f"‖A−LLᵀ‖/‖A‖ = {residual:.3g}", f"at most {TOLERANCE:g}"
            )
        return f"‖A−LLᵀ‖/‖A‖ = {residual:.1e}, at most {TOLERANCE:g} is allowed"

    def digest(self, result: Any) -> str:
        """Hash every bit of the factor."""
        return hashlib.sha256(result.tobytes()).hexdigest()


WORKLOADS: dict[str, type[Workload]] = {Words.name: Words, Cholesky.name: Cholesky}


def standard_library() -> Iterator[Path]:
    """Yield the source files of the standard library, sorted, without its tests and what was added."""
    import sysconfig
    from pathlib import Path

    top = Path(sysconfig.get_path("stdlib"))
    others = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
    for path in sorted(top.rglob("*.py")):
        if not others.intersection(path.relative_to(top).parts):
            yield path


def _shared_out(texts: list[str], tasks: int) -> list[str]:
    """Join texts to about equally long parts, the longest first to the shortest part."""
    parts: list[list[str]] = [[] for _ in range(min(tasks, len(texts)))]
    lengths = [0] * len(parts)
    for text in sorted(texts, key=len, reverse=True):
        shortest = lengths.index(min(lengths))
        parts[shortest].append(text)
        lengths[shortest] += len(text) + 1
    return ["\n".join(part) for part in parts]
