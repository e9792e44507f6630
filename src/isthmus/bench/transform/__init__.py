"""Transformers: take an object out of a task's way, leave an identifier in its place."""
