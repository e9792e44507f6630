"""A factory whose call a test can hold up."""

from __future__ import annotations

import threading


class Gate:
    """A factory that counts its calls and waits to be let through."""

    def __init__(self, target: object = 7) -> None:
        self.target = target
        self.calls = 0
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> object:
        self.calls += 1
        self.entered.set()
        assert self.open.wait(20)
        if isinstance(self.target, BaseException):
            raise self.target
        return self.target
