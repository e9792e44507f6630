"""Word frequencies by map and reduce (dissertation, 2.3.4), with totals that must agree."""

from __future__ import annotations

import functools
import heapq
import logging
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isthmus.bench.apps import Check
from isthmus.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from isthmus.bench.engine import Engine
    from isthmus.bench.futures import TaskFuture

__all__ = [
    "Corpus",
    "Counts",
    "MapReduceApp",
    "count_files",
    "count_text",
    "find_files",
    "generate",
    "merge",
]

logger = logging.getLogger(__name__)

WORD = re.compile(r"\w+")


@dataclass
class Counts:
    """Word frequencies, and what went into them: the two are counted apart, so that they can disagree."""

    words: Counter[str] = field(default_factory=Counter)
    total: int = 0
    """Words seen."""
    documents: int = 0
    """Files or generated texts read."""


@dataclass(frozen=True)
class Corpus:
    """Generated text: words with Zipf's frequencies, so that few are common and most are rare.

    Args:
        documents: how many texts.
        document_words: words in each.
        vocabulary: how many different words there can be.
        seed: same seed, same text.
    """

    documents: int = 32
    document_words: int = 10_000
    vocabulary: int = 5_000
    seed: int = 0


class MapReduceApp:
    """Counts the words of files, or of generated text, in map tasks; adds them up in one reduce task.

    Args:
        paths: files, and folders whose files are all read; without any, text is generated.
        pattern: which files of a folder, as a glob.
        corpus: what to generate.
        map_task_count: map tasks; fewer run if there are fewer documents.
        word_count: most frequent words to write.
        output_file_name: in the run directory; a word, a tab, its frequency in each line.

    Raises:
        ValueError: a number is not positive.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]] = (),
        *,
        pattern: str = "**/*",
        corpus: Corpus | None = None,
        map_task_count: int = 32,
        word_count: int = 10,
        output_file_name: str = "words.txt",
    ) -> None:
        if map_task_count < 1 or word_count < 1:
            raise ValueError(
                f"map_task_count {map_task_count} and word_count {word_count} must both be at least 1"
            )
        self.paths = paths
        self.pattern = pattern
        self.corpus = corpus or Corpus()
        self.map_task_count = map_task_count
        self.word_count = word_count
        self.output_file_name = output_file_name
        self.check: Check | None = None

    def run(self, engine: Engine, run_dir: Path) -> None:
        """Count, check that nothing was lost, and write the most frequent words.

        Raises:
            FileNotFoundError: a path is not there, or no file was found.
            VerificationError: a document or a word is missing from the totals.
        """
        maps: list[TaskFuture[Counts]]
        if self.paths:
            files = find_files(self.paths, self.pattern)
            documents, expected_words = len(files), None
            maps = [
                engine.submit(count_files, part) for part in _balanced(files, self.map_task_count)
            ]
        else:
            texts = [generate(self.corpus, i) for i in range(self.corpus.documents)]
            documents = len(texts)
            expected_words = documents * self.corpus.document_words
            tasks = min(self.map_task_count, documents)
            maps = [engine.submit(count_text, *texts[i::tasks]) for i in range(tasks)]
        logger.info("%d documents in %d map tasks", documents, len(maps))
        counts = engine.submit(merge, maps).result()
        begin = time.perf_counter()
        found = _verified(counts, documents, expected_words)
        self.check = Check(found, time.perf_counter() - begin)
        logger.info("checked: %s", found)
        run_dir.mkdir(parents=True, exist_ok=True)
        lines = (f"{word}\t{n}\n" for word, n in most_frequent(counts.words, self.word_count))
        (run_dir / self.output_file_name).write_text("".join(lines), encoding="utf-8")

    def close(self) -> None:
        """Do nothing: the application holds nothing."""


def count_text(*texts: str) -> Counts:
    """Map: count the words of texts."""
    counts = Counts()
    for text in texts:
        words = WORD.findall(text.lower())
        counts.words.update(words)
        counts.total += len(words)
        counts.documents += 1
    return counts


def count_files(paths: Sequence[str]) -> Counts:
    """Map: count the words of files, one in memory at a time; bytes that are no UTF-8 are replaced.

    Raises:
        OSError: a file cannot be read. It is never skipped.
    """
    counts = Counts()
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            one = count_text(file.read())
        counts = _added(counts, one)
    return counts


def merge(parts: Sequence[Counts]) -> Counts:
    """Reduce: add up."""
    counts = Counts()
    for part in parts:
        counts = _added(counts, part)
    return counts


def most_frequent(words: Counter[str], count: int) -> list[tuple[str, int]]:
    """Return the most frequent words; of equally frequent ones the first in the alphabet, always."""
    return heapq.nsmallest(count, words.items(), key=lambda item: (-item[1], item[0]))


def find_files(paths: Sequence[str | os.PathLike[str]], pattern: str = "**/*") -> list[str]:
    """Return every file that is named or lies in a folder named, once, sorted.

    Raises:
        FileNotFoundError: a path is not there, or there is no file at all.
    """
    from pathlib import Path

    found: set[str] = set()
    for path in map(Path, paths):
        if path.is_dir():
            found.update(str(file.absolute()) for file in path.glob(pattern) if file.is_file())
        elif path.exists():
            found.add(str(path.absolute()))
        else:
            raise FileNotFoundError(2, "no such file or folder to count words in", str(path))
    if not found:
        raise FileNotFoundError(2, f"no file matches {pattern!r} in", ", ".join(map(str, paths)))
    return sorted(found)


def generate(corpus: Corpus, document: int) -> str:
    """Return one text of a corpus."""
    import numpy as np

    words = _vocabulary(corpus.vocabulary, corpus.seed)
    weights = 1.0 / np.arange(1, corpus.vocabulary + 1)
    choice = np.random.default_rng([corpus.seed, document])
    picked = choice.choice(corpus.vocabulary, corpus.document_words, p=weights / weights.sum())
    return " ".join(words[i] for i in picked)


@functools.lru_cache(maxsize=1)
def _vocabulary(size: int, seed: int) -> list[str]:
    import numpy as np

    spelling = np.random.default_rng(seed)
    lengths = spelling.integers(2, 10, size)
    letters = "".join(map(chr, spelling.integers(ord("a"), ord("z") + 1, lengths.sum())))
    ends = np.cumsum(lengths)
    return [letters[end - n : end] for n, end in zip(lengths, ends, strict=True)]


def _added(counts: Counts, more: Counts) -> Counts:
    words = counts.words
    words.update(more.words)
    return Counts(words, counts.total + more.total, counts.documents + more.documents)


def _balanced(files: Sequence[str], tasks: int) -> list[list[str]]:
    """Divide files so that every task reads about as much: the largest first, to the emptiest."""
    sizes = sorted(((os.path.getsize(f), f) for f in files), reverse=True)
    heap: list[tuple[int, int, Any]] = [(0, i, []) for i in range(min(tasks, len(files)))]
    for size, path in sizes:
        load, i, part = heap[0]
        part.append(path)
        heapq.heapreplace(heap, (load + size + 1, i, part))  # + 1: empty files are shared out too
    return [part for _, _, part in sorted(heap, key=lambda entry: entry[1])]


def _verified(counts: Counts, documents: int, words: int | None) -> str:
    if counts.documents != documents:
        raise VerificationError("mapreduce", f"{counts.documents} documents", f"{documents}")
    summed = counts.words.total()
    if summed != counts.total:
        raise VerificationError(
            "mapreduce", f"frequencies that add up to {summed}", f"{counts.total} words as read"
        )
    if words is not None and summed != words:
        raise VerificationError("mapreduce", f"{summed} words", f"{words} as generated")
    return f"{documents} documents and {summed} words all counted"
