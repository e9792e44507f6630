"""Tiled Cholesky factorization: a dense task graph of four kinds of task (dissertation, 2.3.1)."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.bench.apps import Check
from isthmus.errors import VerificationError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from isthmus.bench.engine import Engine

    Tile = NDArray[np.float64]

__all__ = ["TOLERANCE", "CholeskyApp", "gemm", "positive_definite", "potrf", "syrk", "trsm"]

logger = logging.getLogger(__name__)

TOLERANCE = 1e-12
"""Most that ‖A - LLᵀ‖/‖A‖ may be, Frobenius norm. Rounding alone gives some 1e-16."""


class CholeskyApp:
    """Factors a random positive definite matrix into ``L @ L.T``, tile by tile.

    Args:
        matrix_size: rows and columns of the matrix.
        block_size: rows and columns of a tile; those at the edge are smaller where it does not divide
            the matrix. Larger than the matrix is the same as equal: one tile.
        seed: of the matrix.

    Raises:
        ValueError: a size is not positive.
    """

    def __init__(self, matrix_size: int, block_size: int, seed: int = 0) -> None:
        if matrix_size < 1 or block_size < 1:
            raise ValueError(
                f"matrix_size {matrix_size} and block_size {block_size} must both be at least 1"
            )
        self.matrix_size = matrix_size
        self.block_size = min(block_size, matrix_size)
        self.seed = seed
        self.check: Check | None = None

    def run(self, engine: Engine, run_dir: Path) -> None:
        """Factor, gather the factor, and check it.

        Raises:
            VerificationError: the factor's product is not the matrix.
        """
        matrix = positive_definite(self.matrix_size, self.seed)
        factor = self.factor(engine, matrix)
        begin = time.perf_counter()
        residual = float(np.linalg.norm(matrix - factor @ factor.T) / np.linalg.norm(matrix))
        if not residual <= TOLERANCE:  # a NaN is wrong too
            raise VerificationError(
                "cholesky", f"‖A-LLᵀ‖/‖A‖ = {residual:.3g}", f"at most {TOLERANCE:g}"
            )
        found = f"‖A-LLᵀ‖/‖A‖ = {residual:.1e} (at most {TOLERANCE:g})"
        self.check = Check(found, time.perf_counter() - begin)
        logger.info("checked: %s", found)

    def factor(self, engine: Engine, matrix: Tile) -> Tile:
        """Return the lower factor of a symmetric positive definite matrix.

        Right-looking: a column of tiles is finished and the square right of it brought up to date.
        Dependencies are the futures in the tiles' places; nothing waits before the end.
        """
        starts = range(0, len(matrix), self.block_size)
        count = len(starts)

        def tile(i: int, j: int) -> tuple[slice, slice]:
            rows, columns = starts[i], starts[j]
            return slice(rows, rows + self.block_size), slice(columns, columns + self.block_size)

        # Copies: a view would take the whole matrix along wherever it is pickled by its base.
        tiles: dict[tuple[int, int], Any] = {
            (i, j): np.ascontiguousarray(matrix[tile(i, j)])
            for i in range(count)
            for j in range(i + 1)
        }
        for k in range(count):
            tiles[k, k] = engine.submit(potrf, tiles[k, k])
            for i in range(k + 1, count):
                tiles[i, k] = engine.submit(trsm, tiles[k, k], tiles[i, k])
            for i in range(k + 1, count):
                tiles[i, i] = engine.submit(syrk, tiles[i, i], tiles[i, k])
                for j in range(k + 1, i):
                    tiles[i, j] = engine.submit(gemm, tiles[i, j], tiles[i, k], tiles[j, k])
        logger.info("%d x %d tiles submitted", count, count)
        factor = np.zeros_like(matrix)
        for (i, j), future in tiles.items():
            factor[tile(i, j)] = future.result()
        return factor

    def close(self) -> None:
        """Do nothing: the application holds nothing."""


def positive_definite(size: int, seed: int) -> Tile:
    """Return ``(B + B.T) + size * I`` for B uniform in [0, 1): symmetric, positive definite."""
    b = np.random.default_rng(seed).random((size, size))
    a: Tile = b + b.T
    a[np.diag_indices(size)] += size
    return a


def potrf(a: Tile) -> Tile:
    """Return the lower factor of a diagonal tile.

    Raises:
        numpy.linalg.LinAlgError: the tile is not positive definite.
    """
    return np.linalg.cholesky(a).astype(np.float64, copy=False)


def trsm(diagonal: Tile, a: Tile) -> Tile:
    """Return X with ``X @ diagonal.T = a``, for a lower triangular `diagonal`."""
    return np.ascontiguousarray(np.linalg.solve(diagonal, a.T).T)


def syrk(c: Tile, a: Tile) -> Tile:
    """Return a diagonal tile brought up to date: ``c - a @ a.T``."""
    return c - a @ a.T


def gemm(c: Tile, a: Tile, b: Tile) -> Tile:
    """Return a tile brought up to date: ``c - a @ b.T``."""
    return c - a @ b.T
