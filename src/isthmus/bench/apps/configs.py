"""Configurations of the applications, apart from them so that workers load no pydantic."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING

from pydantic import Field

from isthmus.bench.config import AppConfig
from isthmus.spec import require

if TYPE_CHECKING:
    from isthmus.bench.apps.cholesky import CholeskyApp
    from isthmus.bench.apps.mapreduce import MapReduceApp

__all__ = ["CholeskyConfig", "MapReduceConfig"]


class CholeskyConfig(AppConfig):
    """Tiled Cholesky factorization of a random positive definite matrix."""

    name: str = "cholesky"
    matrix_size: int = Field(description="rows and columns of the matrix", gt=0)
    block_size: int = Field(description="rows and columns of a tile", gt=0)
    seed: int = Field(0, ge=0, description="seed of the matrix")

    def get_app(self) -> CholeskyApp:
        """Build the application."""
        require("numpy", extra="bench", what="the cholesky application")
        from isthmus.bench.apps.cholesky import CholeskyApp

        return CholeskyApp(self.matrix_size, self.block_size, self.seed)


class MapReduceConfig(AppConfig):
    """Word frequencies of files, or of generated text."""

    name: str = "mapreduce"
    paths: list[Path] = Field(
        default_factory=list,
        description="files and folders to read; without any, text is generated",
    )
    pattern: str = Field("**/*", description="which files of a folder")
    map_task_count: int = Field(32, gt=0, description="number of map tasks")
    word_count: int = Field(10, gt=0, description="most frequent words to write")
    output_file_name: str = Field("words.txt", description="their file in the run directory")
    documents: int = Field(32, gt=0, description="texts to generate")
    document_words: int = Field(10_000, gt=0, description="words in each generated text")
    vocabulary: int = Field(5_000, gt=0, description="different words to choose from")
    seed: int = Field(0, ge=0, description="seed of the generated text")

    def get_app(self) -> MapReduceApp:
        """Build the application."""
        from isthmus.bench.apps.mapreduce import Corpus, MapReduceApp

        if not self.paths:
            require("numpy", extra="bench", what="generating text")
        return MapReduceApp(
            self.paths,
            pattern=self.pattern,
            corpus=Corpus(self.documents, self.document_words, self.vocabulary, self.seed),
            map_task_count=self.map_task_count,
            word_count=self.word_count,
            output_file_name=self.output_file_name,
        )
