"""The rules in their plainest form, at run time: programs are executed, and Python counts the references.

It shares nothing with the linter but the rules. Tasks never end by themselves, which is the worst that may
happen to a program that does not wait for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any


class Broken(Exception):
    """A rule is broken; ``args``: the code."""


class Oops(Exception):
    """What programs raise and catch themselves."""


class World:
    """One execution. The first broken rule is in `broken`, with its line."""

    def __init__(self, choices: Iterator[int]) -> None:
        self.broken: tuple[int, str] | None = None
        self.choices = choices
        self.made: list[int] = []
        self.over = False

    def run(self, source: str) -> tuple[int, str] | None:
        """Run a program and return the line and code of the rule that it breaks first, or None."""
        names: dict[str, Any] = {"Oops": Oops}
        for function in (borrow, mut_borrow, update, drop, clone, submit):
            names[function.__name__] = self.watched(function)
        names["print"] = self.watched(use)
        for method in (self.owned_proxy, self.done, self.choice, self.rounds, self.end):
            names[method.__name__] = method
        names["store"] = self
        names["sum"] = sum
        names["pool"] = self
        try:
            exec(compile(source, "program", "exec"), names)
        except (Broken, Oops):
            pass
        finally:
            self.over = True
        return self.broken

    def note(self, code: str, line: int) -> None:
        if self.broken is None and not self.over:
            self.broken = (line, code)

    def watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self.broken is not None:  # a finalizer could not raise
                raise Broken
            try:
                return function(self, *args, **kwargs)
            except Broken as error:
                self.note(error.args[0], sys._getframe(1).f_lineno)
                raise

        return call

    def submit(self) -> None:
        """Stands for a pool's method."""

    def owned_proxy(self, value: object) -> Owned:
        return Owned(self)

    def done(self) -> Future:
        return Future([])

    def choice(self) -> int:
        """Return the path's next choice: 0 beyond those that it was given."""
        if self.broken is not None:
            raise Broken
        self.made.append(next(self.choices, 0))
        return self.made[-1]

    def rounds(self) -> Iterator[int]:
        for number in range(2):
            if self.choice():
                yield number

    def end(self, variables: dict[str, Any]) -> None:
        """Check what a function leaves behind."""
        for value in variables.values():
            if isinstance(value, Owned) and not value.gone:
                if any(loan.tasks for loan in value.loans):
                    self.note("IOW004", sys._getframe(1).f_lineno)
        self.over = True


class Owned:
    def __init__(self, world: World) -> None:
        self.world = world
        self.gone = False
        self.loans: list[Loan] = []

    def __del__(self) -> None:
        if not self.gone and self.loans:
            self.world.note("IOW004", sys._getframe(1).f_lineno)


class Loan:
    """A borrow; `tasks` are those that hold it and run."""

    def __init__(self, owner: Owned, mutable: bool) -> None:
        self.mutable = mutable
        self.tasks: list[Future] = []
        self.among = owner.loans
        owner.loans.append(self)

    def end(self) -> None:
        if self in self.among:
            self.among.remove(self)


class Reference:
    def __init__(self, loan: Loan) -> None:
        self.loan = loan

    def __del__(self) -> None:
        if not self.loan.tasks:
            self.loan.end()


class Future:
    def __init__(self, loans: list[Loan]) -> None:
        self.loans = loans
        for loan in loans:
            loan.tasks.append(self)

    def result(self) -> None:
        for loan in self.loans:
            loan.tasks.remove(self)
            if not loan.tasks:
                loan.end()
        self.loans = []


def use(world: World, value: object) -> None:
    if isinstance(value, Owned) and value.gone:
        raise Broken("IOW001")


def borrow(world: World, value: object) -> Reference | None:
    if not isinstance(value, Owned):
        return None
    use(world, value)
    if any(loan.mutable for loan in value.loans):
        raise Broken("IOW003")
    return Reference(Loan(value, False))


def mut_borrow(world: World, value: object) -> Reference | None:
    if not isinstance(value, Owned):
        return None
    update(world, value)
    return Reference(Loan(value, True))


def update(world: World, value: object) -> None:
    use(world, value)
    if isinstance(value, Owned) and value.loans:
        raise Broken("IOW002" if value.loans[0].mutable else "IOW003")


def clone(world: World, value: object) -> Owned:
    use(world, value)
    return Owned(world)


def drop(world: World, value: object) -> None:
    use(world, value)
    if isinstance(value, Owned):
        if value.loans:
            raise Broken("IOW004")
        value.gone = True


def submit(world: World, function: object, args: tuple[object, ...]) -> Future:
    loans = []
    for value in args[1:]:
        use(world, value)
        if isinstance(value, Owned):
            if value.loans:
                raise Broken("IOW005")
            value.gone = True
        elif isinstance(value, Reference) and value.loan in value.loan.among:
            if value.loan.mutable and (value.loan.tasks or value.loan in loans):
                raise Broken("IOW002")
            loans.append(value.loan)
    return Future(loans)
