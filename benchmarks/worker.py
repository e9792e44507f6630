"""One side of a comparison: a process that prepares snippets of code and times them when asked.

Runs in the environment under test (ours or a peer's) and needs nothing installed there. Speaks JSON,
a line a message: a request on standard input, one answer to each on standard output.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from itertools import repeat
from types import ModuleType
from typing import Any

PLAIN = """
def batch(_n, _clock, _repeat{names}):
    _start = _clock()
    for _ in _repeat(None, _n):
{stmt}
    return _clock() - _start
"""
# Reads the clock twice a loop (about 50 ns), so only what is much slower than that goes this way.
FRAMED = """
def batch(_n, _clock, _repeat{names}):
    _total = 0.0
    for _ in _repeat(None, _n):
{before}
        _start = _clock()
{stmt}
        _total += _clock() - _start
{after}
    return _total
"""


class Snippet:
    """Prepared code that can be run any number of times."""

    def __init__(self, name: str, request: dict[str, str]) -> None:
        # A real module, so that pickle finds the classes and functions that a setup defines.
        self.module = sys.modules[name] = ModuleType(name)
        exec(compile(request["setup"], f"<setup of {name}>", "exec"), vars(self.module))
        prepare = _value if request["kind"] == "value" else _batch
        self.run = prepare(request, vars(self.module))


def _value(request: dict[str, str], namespace: dict[str, Any]) -> Callable[[int], float]:
    code = compile(request["stmt"].strip(), "<value>", "eval")
    return lambda n: float(eval(code, namespace))


def _batch(request: dict[str, str], namespace: dict[str, Any]) -> Callable[[int], float]:
    parts = {k: request[k] for k in ("before", "stmt", "after")}
    # What the setup made becomes arguments: local names are the fastest, and `x += 1` works.
    used = {
        n.id
        for part in parts.values()
        for n in ast.walk(ast.parse(part))
        if isinstance(n, ast.Name)
    }
    names = sorted(used & namespace.keys())
    template = FRAMED if parts["before"] or parts["after"] else PLAIN
    source = template.format(
        names="".join(f", {n}" for n in names),
        **{
            k: textwrap.indent(textwrap.dedent(v).strip() or "pass", " " * 8)
            for k, v in parts.items()
        },
    )
    exec(compile(source, "<batch>", "exec"), namespace)
    batch, values = namespace["batch"], [namespace[n] for n in names]
    return lambda n: batch(n, time.perf_counter, repeat, *values)


def serve(requests: Any, answers: Any) -> None:
    """Answer requests until the other side hangs up."""
    snippets: dict[str, Snippet] = {}
    for line in requests:
        request = json.loads(line)
        name = request["name"]
        try:
            value = 0.0
            match request["do"]:
                case "setup":
                    snippets[name] = Snippet(name, request)
                    gc.collect()
                    gc.freeze()
                case "time":
                    gc.collect()
                    gc.disable()  # a collection belongs to whoever allocated, not to whom it hits
                    value = snippets[name].run(request["n"])
                case "drop":
                    snippets.pop(name, None)
                    sys.modules.pop(name, None)
                    gc.unfreeze()
                    gc.collect()
            answer = {"value": value}
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            answer = {"error": type(error).__name__, "message": str(error), "traceback": text}
        finally:
            gc.enable()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the code under test prints must not mix with the answers
    serve(sys.stdin, answers)
