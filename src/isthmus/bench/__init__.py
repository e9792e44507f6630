"""A benchmark suite for task-based distributed applications."""
