"""A benchmark suite for task-based applications: any application on any engine and any data path.

Start with :class:`isthmus.bench.engine.Engine` from code, or ``isthmus bench run`` from a terminal.
Nothing is imported here, so that workers load only what their tasks need.
"""
