"""What is known at one point of a program, and how the knowledge of two paths is joined.

Facts are immutable and the three tables are plain dicts, so that a branch starts from a shallow copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from isthmus.lint.findings import Place

__all__ = [
    "HUSHED",
    "MAYBE",
    "NOTHING",
    "SURE",
    "UNKNOWN",
    "Dotted",
    "Executor",
    "Loan",
    "Many",
    "Move",
    "Owner",
    "State",
    "Token",
    "Value",
    "tokens",
]

HUSHED, MAYBE, SURE = 0, 1, 2
"""How certain a fact is: may hold but is never reported; holds on some path; holds on every path."""


class Token(NamedTuple):
    """A tracked thing: an "owner", a "loan" (a reference), or a "task" (a future)."""

    kind: str
    number: int


class Many(NamedTuple):
    """A tuple, list or set display; those of lists grow with ``append``."""

    items: tuple[Value, ...]


class Dotted(NamedTuple):
    """An imported module or something in it."""

    name: str


class Executor(NamedTuple):
    """A StoreExecutor, and its methods that take ownership."""

    methods: tuple[str, ...] = ("submit", "map")


Value = Token | Many | Dotted | Executor | None
UNKNOWN = Dotted("")
"""Anything that is not followed."""
NOTHING = None
"""A constant, or a name without a value: joined with an owner it is that owner, if anything."""


class Move(NamedTuple):
    """How an owner was given away. One of `kind` "return" or "claim" leaves it readable."""

    kind: str
    place: Place
    certainty: int = SURE


class Owner(NamedTuple):
    """An owned proxy; with `plain`, an ordinary one that ``into_owned`` may claim once.

    `escaped`: there may be names for it that are not followed, so that its end is not known.
    """

    moved: Move | None = None
    escaped: bool = False
    plain: bool = False


class Loan(NamedTuple):
    """A reference that is alive: held by a variable, or by tasks that were not waited for."""

    owner: int
    mutable: bool
    place: Place
    tasks: frozenset[int] = frozenset()
    certainty: int = SURE


def tokens(*values: Value) -> Iterator[Token]:
    """Yield the tracked things in values."""
    for value in values:
        if isinstance(value, Token):
            yield value
        elif isinstance(value, Many):
            yield from tokens(*value.items)


class State:
    """Variables, owners, loans alive, and tasks not waited for (with the text of their executor)."""

    def __init__(self) -> None:
        self.variables: dict[str, Value] = {}
        self.owners: dict[int, Owner] = {}
        self.loans: dict[int, Loan] = {}
        self.tasks: dict[int, str] = {}

    def copy(self) -> State:
        """Return a state that changes on its own."""
        new = State()
        new.variables = self.variables.copy()
        new.owners = self.owners.copy()
        new.loans = self.loans.copy()
        new.tasks = self.tasks.copy()
        return new

    def hushed(self) -> State:
        """Return a copy for a path under a condition: what was a maybe may hang on the same condition."""
        new = self.copy()
        for number, owner in new.owners.items():
            if owner.moved and owner.moved.certainty == MAYBE:
                new.owners[number] = owner._replace(moved=owner.moved._replace(certainty=HUSHED))
        for number, loan in new.loans.items():
            if loan.certainty == MAYBE:
                new.loans[number] = loan._replace(certainty=HUSHED)
        return new

    def held(self, but: str = "") -> set[Token]:
        """Return what variables hold."""
        return set(tokens(*(v for name, v in self.variables.items() if name != but)))

    def escape(self, *values: Value) -> None:
        """Let go of what code that is not followed may keep, end or wait for."""
        for kind, number in list(tokens(*values)):
            if kind == "owner" and number in self.owners:
                self.owners[number] = self.owners[number]._replace(escaped=True)
            elif kind == "loan":
                self.loans.pop(number, None)
            elif kind == "task":
                self.end_tasks([number])

    def end_tasks(self, numbers: Iterable[int]) -> None:
        """Note that tasks are done; a reference ends with the last of its tasks."""
        ended = frozenset(numbers)
        for number in ended:
            self.tasks.pop(number, None)
        for number, loan in list(self.loans.items()):
            if loan.tasks & ended:
                if loan.tasks <= ended:
                    del self.loans[number]
                else:
                    self.loans[number] = loan._replace(tasks=loan.tasks - ended)

    def renamed(self, new: Mapping[int, int]) -> State:
        """Return a copy with other numbers for some tracked things."""
        if not new:
            return self.copy()

        def name(value: Value) -> Value:
            if isinstance(value, Token):
                return Token(value.kind, new.get(value.number, value.number))
            if isinstance(value, Many):
                return Many(tuple(map(name, value.items)))
            return value

        state = State()
        state.variables = {key: name(value) for key, value in self.variables.items()}
        state.owners = {new.get(n, n): owner for n, owner in self.owners.items()}
        state.loans = {
            new.get(n, n): loan._replace(
                owner=new.get(loan.owner, loan.owner),
                tasks=frozenset(new.get(t, t) for t in loan.tasks),
            )
            for n, loan in self.loans.items()
        }
        state.tasks = {new.get(n, n): text for n, text in self.tasks.items()}
        return state

    @staticmethod
    def join(states: Sequence[State | None], before: State | None = None) -> State | None:
        """Return what is known where paths meet; a path that is None left earlier.

        Args:
            states: one for each path.
            before: where the paths parted. If all of them arrive here, what was a maybe there is one again.
        """
        arrived = [s for s in states if s is not None]
        if not arrived:
            return None
        result = arrived[0].copy()
        for state in arrived[1:]:
            if state is not arrived[0]:
                result = _joined(result, state)
        if before is not None and len(arrived) == len(states):
            result.revive(before)
        return result

    def revive(self, before: State) -> None:
        """Undo `hushed` for what no path has changed since."""
        for number, was in before.owners.items():
            now = self.owners.get(number)
            if now and now.moved and was.moved and was.moved.certainty == MAYBE:
                self.owners[number] = now._replace(moved=now.moved._replace(certainty=MAYBE))
        for number, loan in before.loans.items():
            if number in self.loans and loan.certainty == MAYBE:
                self.loans[number] = self.loans[number]._replace(certainty=MAYBE)


def _joined(a: State, b: State) -> State:
    b = b.renamed(_pairs(a, b))
    result = State()
    lost: list[Value] = []
    held = (a.held(), b.held())
    for number in a.owners.keys() | b.owners.keys():
        facts = [a.owners.get(number), b.owners.get(number)]
        named = [Token("owner", number) in names for names in held]
        if all(facts) and named[0] != named[1]:
            # Where no name is left for it (`submit(p)`, then `p = None`), nobody can use it.
            facts[named.index(False)] = None
        result.owners[number] = _owner(*facts)
    for number in a.loans.keys() | b.loans.keys():
        result.loans[number] = _loan(number, a, b)
    result.tasks = {**a.tasks, **b.tasks}
    for name in [*a.variables, *(n for n in b.variables if n not in a.variables)]:
        one, other = a.variables.get(name, NOTHING), b.variables.get(name, NOTHING)
        if one == other or other is NOTHING:
            result.variables[name] = one
        elif one is NOTHING:
            result.variables[name] = other
        elif isinstance(one, Many) and isinstance(other, Many):
            result.variables[name] = Many(tuple(dict.fromkeys(one.items + other.items)))
        else:
            result.variables[name] = UNKNOWN
            lost += [one, other]
    result.escape(*lost)
    return result


def _pairs(a: State, b: State) -> dict[int, int]:
    """Find what each path made on its own for the same variable: from here on it is one thing."""
    known = [s.owners.keys() | s.tasks.keys() | s.loans.keys() for s in (a, b)]
    new: dict[int, int] = {}

    def pair(one: Value, other: Value) -> None:
        if isinstance(one, Many) and isinstance(other, Many) and len(one.items) == len(other.items):
            for x, y in zip(one.items, other.items, strict=True):
                pair(x, y)
        elif isinstance(one, Token) and isinstance(other, Token) and one.kind == other.kind:
            fresh = one.number not in known[1] and other.number not in known[0]
            if fresh and other.number not in new and one.number not in new.values():
                new[other.number] = one.number

    for name, value in b.variables.items():
        pair(a.variables.get(name), value)
    for number, loan in b.loans.items():  # references pair only as far as their owners do
        if number in new:
            twin = a.loans.get(new[number])
            owner = new.get(loan.owner, loan.owner)
            if twin is None or (twin.owner, twin.mutable) != (owner, loan.mutable):
                del new[number]
    return new


def _owner(one: Owner | None, other: Owner | None) -> Owner:
    if one is None or other is None:
        found = one or other
        assert found is not None
        return found
    move = one.moved or other.moved
    if move is not None:
        both = [m.certainty for m in (one.moved, other.moved) if m is not None]
        if len(both) == 2 and min(both) == SURE:
            certainty = SURE
        else:
            certainty = MAYBE if max(both) >= MAYBE else HUSHED
        move = move._replace(certainty=certainty)
    return Owner(move, one.escaped or other.escaped, one.plain)


def _loan(number: int, a: State, b: State) -> Loan:
    one, other = a.loans.get(number), b.loans.get(number)
    if one is not None and other is not None:
        certainty = one.certainty if one.certainty == other.certainty else MAYBE
        return one._replace(tasks=one.tasks | other.tasks, certainty=certainty)
    found, lacking = (one, b) if one is not None else (other, a)
    assert found is not None
    if found.owner in lacking.owners:  # on that path the owner is there and not borrowed
        return found._replace(certainty=min(found.certainty, MAYBE))
    return found
