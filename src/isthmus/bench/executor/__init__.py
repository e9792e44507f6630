"""Executors, and what makes any of them follow data."""

from isthmus.bench.executor.dependency import FutureDependencyExecutor

__all__ = ["FutureDependencyExecutor"]
