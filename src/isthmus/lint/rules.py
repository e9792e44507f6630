"""The rules: what moving, borrowing, updating and dropping do to a state, and what contradicts it."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from isthmus.lint.findings import Finding, Place
from isthmus.lint.state import SURE, UNKNOWN, Loan, Move, Owner, State, Token, Value, tokens

if TYPE_CHECKING:
    import ast

__all__ = ["Rules"]

_READABLE = ("return", "claim")


class Rules:
    """Applies operations to the state of the path being followed, and collects findings."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.state = State()
        self.findings: dict[tuple[int, int, str], Finding] = {}
        self.broken = 0
        """Rules broken so far, reported or not."""
        self.muted = 0
        """More than 0 where the program expects the error."""
        self._numbers = count(1)

    def report(self, node: ast.AST, code: str, message: str, earlier: Place) -> None:
        """Note a broken rule."""
        self.broken += 1
        if self.muted:
            return
        place = _at(node)
        last = getattr(node, "end_lineno", None) or place[0]
        self.findings.setdefault(
            (*place, code), Finding(self.path, *place, code, message, earlier, last)
        )

    def new_owner(self, *, escaped: bool = False, plain: bool = False) -> Token:
        """Return a new owned proxy (or a plain one)."""
        number = next(self._numbers)
        self.state.owners[number] = Owner(escaped=escaped, plain=plain)
        return Token("owner", number)

    def new_task(self, executor: str, given: list[Value]) -> Token:
        """Return a new task that holds the references among what it was given."""
        number = next(self._numbers)
        self.state.tasks[number] = executor
        for kind, n in tokens(*given):
            if kind == "loan" and n in self.state.loans:
                loan = self.state.loans[n]
                self.state.loans[n] = loan._replace(tasks=loan.tasks | {number})
        return Token("task", number)

    def owner(self, value: Value) -> Owner | None:
        """Return what is known about an owned proxy, or None if the value is something else."""
        if isinstance(value, Token) and value.kind == "owner":
            found = self.state.owners.get(value.number)
            return None if found is None or found.plain else found
        return None

    def use(self, value: Value, node: ast.AST, name: str, *, moving: bool = False) -> bool:
        """Check that an owner is still ours; True if so, or if the value is something else."""
        owner = self.owner(value)
        if owner is None or owner.moved is None or not owner.moved.certainty:
            return True
        if owner.moved.kind in _READABLE and not moving:
            return True
        assert isinstance(value, Token)
        how = "dropped" if owner.moved.kind == "drop" else "moved"
        self.report(node, "IOW001", f"{name} is used after it was {how}", owner.moved.place)
        # Once for each path is enough.
        self.state.owners[value.number] = Owner(escaped=True)
        self._forget_loans(value.number)
        return False

    def borrow(self, value: Value, node: ast.AST, name: str, *, mutable: bool) -> Value:
        """Borrow an owner and return the reference, which is unknown if the borrow must fail."""
        if self.owner(value) is None or not self.use(value, node, name):
            return UNKNOWN
        assert isinstance(value, Token)
        if not self._exclusive(value.number, node, name, mutable, "borrowed"):
            return UNKNOWN
        number = next(self._numbers)
        manner = "mutably" if mutable else "immutably"
        place = Place(*_at(node), f"{name} was borrowed {manner} here")
        self.state.loans[number] = Loan(value.number, mutable, place)
        return Token("loan", number)

    def update(self, value: Value, node: ast.AST, name: str) -> None:
        """Write through an owner: for that moment a mutable borrow."""
        if self.owner(value) is not None and self.use(value, node, name):
            assert isinstance(value, Token)
            self._exclusive(value.number, node, name, True, "updated")

    def claim(self, value: Value, node: ast.AST, name: str) -> Token:
        """Give a plain proxy's object an owner, which can be done once."""
        if isinstance(value, Token) and value.number in self.state.owners:
            plain = self.state.owners[value.number]
            if plain.plain and plain.moved and plain.moved.certainty:
                self.report(node, "IOW001", f"{name} is given a second owner", plain.moved.place)
            elif plain.plain:
                move = Move("claim", Place(*_at(node), f"{name} was given its owner here"))
                self.state.owners[value.number] = plain._replace(moved=move)
        return self.new_owner()

    def move(self, value: Value, node: ast.AST, name: str, how: str) -> None:
        """Give an owner away."""
        if self.owner(value) is None or not self.use(value, node, name, moving=True):
            return
        assert isinstance(value, Token)
        loan = self._alive(value.number)
        if loan is not None and how != "return":
            if how == "drop":
                message = f"{name} is dropped while it is borrowed"
                self.report(node, "IOW004", message, _told(loan))
            else:
                message = f"{name} is moved by {how} while it is borrowed"
                self.report(node, "IOW005", message, _told(loan))
            self._forget_loans(value.number)
            self.state.owners[value.number] = Owner(escaped=True)
            return
        past = {"drop": "dropped", "return": "returned"}.get(how, "moved")
        by = f" by {how}" if past == "moved" else ""
        place = Place(*_at(node), f"{name} was {past} here{by}")
        kind = how if how in ("drop", "return") else "move"
        self.state.owners[value.number] = self.state.owners[value.number]._replace(
            moved=Move(kind, place)
        )

    def second_task(self, value: Value, node: ast.AST, name: str) -> bool:
        """Check that a mutable reference is not with a running task already; True if it is."""
        loan = self.state.loans.get(value.number) if isinstance(value, Token) else None
        if loan is None or not loan.mutable or not loan.tasks or not loan.certainty:
            return False
        self.report(
            node, "IOW002", f"{name} is passed to a second task while the first has it", _told(loan)
        )
        assert isinstance(value, Token)
        del self.state.loans[value.number]
        return True

    def released(self, before: set[Token], node: ast.AST, name: str, how: str) -> None:
        """End what no variable holds any longer.

        Args:
            before: what variables held before the statement.
            node: the statement, or the target in it.
            name: the variable's, for the message.
            how: "deleted" or "rebound".
        """
        held = self.state.held()
        gone = before - held
        for kind, number in gone:
            if kind == "loan" and number in self.state.loans and not self.state.loans[number].tasks:
                del self.state.loans[number]
        for kind, number in gone:
            if kind == "owner":
                self._out_of_scope(number, node, f"{name} is {how} while it is borrowed")

    def temporaries_end(self) -> None:
        """End references that neither a variable nor a task holds: the statement is over."""
        held = self.state.held()
        for number, loan in list(self.state.loans.items()):
            if not loan.tasks and Token("loan", number) not in held:
                del self.state.loans[number]

    def scope_ends(self, node: ast.AST, returned: Value) -> None:
        """Check the owners that a function leaves behind; local references end with them."""
        names = {t: name for name, v in self.state.variables.items() for t in tokens(v)}
        kept = set(tokens(returned))
        for number in list(self.state.owners):
            token = Token("owner", number)
            if token not in names or token in kept:
                continue
            for n, loan in list(self.state.loans.items()):
                if loan.owner == number and not loan.tasks and Token("loan", n) not in kept:
                    del self.state.loans[n]
            self._out_of_scope(
                number, node, f"'{names[token]}' goes out of scope while it is borrowed"
            )

    def _out_of_scope(self, number: int, node: ast.AST, message: str) -> None:
        owner = self.state.owners.get(number)
        if owner is None or owner.escaped or owner.plain or owner.moved is not None:
            return
        loan = self._alive(number)
        if loan is not None:
            self.report(node, "IOW004", message, _told(loan))
        self._forget_loans(number)

    def _exclusive(self, number: int, node: ast.AST, name: str, mutable: bool, verb: str) -> bool:
        loan = self._alive(number, mutable_only=not mutable)
        if loan is None:
            return True
        other = "a mutable" if loan.mutable else "an immutable"
        manner = "" if verb == "updated" else " mutably" if mutable else " immutably"
        code = "IOW002" if loan.mutable and mutable else "IOW003"
        message = f"{name} is {verb}{manner} while {other} borrow is alive"
        self.report(node, code, message, _told(loan))
        return False

    def _alive(self, number: int, *, mutable_only: bool = False) -> Loan | None:
        """Return the most certain loan of an owner that may be reported."""
        found = [
            loan
            for loan in self.state.loans.values()
            if loan.owner == number and loan.certainty and (loan.mutable or not mutable_only)
        ]
        return max(found, key=lambda loan: loan.certainty == SURE, default=None)

    def _forget_loans(self, number: int) -> None:
        for n, loan in list(self.state.loans.items()):
            if loan.owner == number:
                del self.state.loans[n]


def _told(loan: Loan) -> Place:
    if loan.tasks:
        return loan.place._replace(text=f"{loan.place.text}, for a task not waited for")
    return loan.place


def _at(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset + 1  # type: ignore[attr-defined]
