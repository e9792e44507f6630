from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus.bench.apps import cholesky, mapreduce
from isthmus.bench.apps.cholesky import CholeskyApp, positive_definite
from isthmus.bench.apps.mapreduce import Corpus, MapReduceApp, generate, merge
from isthmus.bench.engine import Engine
from isthmus.errors import VerificationError


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(ThreadPoolExecutor(2)) as engine:
        yield engine


@pytest.mark.parametrize(
    ("size", "block"), [(1, 1), (12, 4), (12, 12), (12, 50), (13, 4), (50, 7), (64, 1)]
)
def test_the_factor_is_numpys(engine: Engine, tmp_path: Path, size: int, block: int) -> None:
    app = CholeskyApp(size, block, seed=3)
    matrix = positive_definite(size, 3)
    np.testing.assert_allclose(app.factor(engine, matrix), np.linalg.cholesky(matrix), rtol=1e-10)
    app.run(engine, tmp_path)
    assert app.check is not None
    tiles = -(-size // min(block, size))
    assert engine.tasks_executed == 2 * (tiles * (tiles + 1) * (tiles + 2) // 6)


def test_a_matrix_is_its_seeds() -> None:
    np.testing.assert_array_equal(positive_definite(20, 1), positive_definite(20, 1))
    assert (positive_definite(20, 1) != positive_definite(20, 2)).any()


def wrong_syrk(c: Any, a: Any) -> Any:
    return c - a @ a.T + 1e-6


def test_a_wrong_factor_is_noticed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cholesky, "syrk", wrong_syrk)
    with pytest.raises(VerificationError, match=r"cholesky computed a wrong result.*1e-12"):
        CholeskyApp(20, 5).run(engine, tmp_path)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ValueError, match="block_size 0"):
        CholeskyApp(3, 0)
    with pytest.raises(ValueError, match="word_count 0"):
        MapReduceApp(word_count=0)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    (folder / "deep").mkdir(parents=True)
    for i in range(11):
        (folder / f"{i}.txt").write_text("the cat " * i + f"only{i}")
    (folder / "deep" / "latin.txt").write_bytes("caf\xe9 the".encode("latin-1"))
    (folder / "empty.txt").write_text("")
    return folder


@pytest.mark.parametrize("tasks", [1, 2, 5, 13, 50])
def test_no_file_is_dropped(engine: Engine, tmp_path: Path, texts: Path, tasks: int) -> None:
    app = MapReduceApp([texts], map_task_count=tasks, word_count=3)
    app.run(engine, tmp_path)
    expected = Counter({"the": 56, "cat": 55})
    lines = (tmp_path / "words.txt").read_text().splitlines()
    assert lines[:2] == [f"{w}\t{n}" for w, n in expected.most_common()]
    assert len(lines) == 3
    assert app.check is not None
    assert "13 documents" in app.check.found
    assert engine.tasks_executed == min(tasks, 13) + 1


def test_files_may_be_named_and_chosen(texts: Path) -> None:
    assert len(mapreduce.find_files([texts / "1.txt", texts / "1.txt"])) == 1
    assert len(mapreduce.find_files([texts], "*.txt")) == 12
    with pytest.raises(FileNotFoundError, match=r"no file matches '\*.py'"):
        mapreduce.find_files([texts], "*.py")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        mapreduce.find_files([texts / "nowhere"])


def test_an_unreadable_file_fails_the_run(engine: Engine, texts: Path, tmp_path: Path) -> None:
    app = MapReduceApp([texts])
    found = mapreduce.find_files([texts])

    (texts / "3.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"3\.txt"):
        engine.submit(mapreduce.count_files, found).result()
    app.run(engine, tmp_path)


def test_generated_text_is_its_seeds() -> None:
    corpus = Corpus(documents=2, document_words=500, vocabulary=50, seed=4)
    assert generate(corpus, 0) == generate(corpus, 0)
    assert generate(corpus, 0) != generate(corpus, 1)
    assert len(generate(corpus, 0).split()) == 500


def test_generated_text_is_counted(engine: Engine, tmp_path: Path) -> None:
    corpus = Corpus(documents=5, document_words=1000, vocabulary=50)
    MapReduceApp(corpus=corpus, map_task_count=3, word_count=1000).run(engine, tmp_path)
    counted = Counter()
    for line in (tmp_path / "words.txt").read_text().splitlines():
        word, n = line.split("\t")
        counted[word] = int(n)
    assert counted == Counter(w for i in range(5) for w in generate(corpus, i).split())


def lossy(parts: Any) -> Any:
    counts = merge(parts)
    counts.words[next(iter(counts.words))] -= 1
    return counts


def forgetful(parts: Any) -> Any:
    return merge(parts[:-1])


@pytest.mark.parametrize(("broken", "says"), [(lossy, "add up to"), (forgetful, "documents")])
def test_a_lost_word_or_document_is_noticed(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Any, says: str
) -> None:
    monkeypatch.setattr(mapreduce, "merge", broken)
    with pytest.raises(VerificationError, match=says):
        MapReduceApp(corpus=Corpus(4, 100)).run(engine, tmp_path)
