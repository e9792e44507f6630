"""Control flow: statements are followed along every path, loops twice.

The second round through a loop's body finds what one round leaves for the next. Where paths meet, their
knowledge is joined; where a path is taken under a condition, what holds on some paths only is hushed, for
the condition may be the very one that decided it.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from isthmus.lint.expressions import Expressions
from isthmus.lint.names import imported_names
from isthmus.lint.rules import Rules
from isthmus.lint.state import NOTHING, UNKNOWN, Executor, Many, State, tokens

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isthmus.lint.findings import Finding
    from isthmus.lint.state import Value

__all__ = ["check_tree"]

_MAX_STEPS = 20_000  # statements followed in one function; deeper nests of loops are left alone
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Exits = dict[str, list[tuple[State, ast.stmt, "Value"]]]
_EXPECTING = ("raises", "warns", "assertRaises", "assertRaisesRegex", "assertWarns", "suppress")
_WAITLESS = ("Store", "open", "ContextLifetime", "suppress", "raises", "nullcontext")


class _TooLongError(Exception):
    """A function has too many paths to follow."""


def check_tree(tree: ast.Module, path: str) -> list[Finding]:
    """Follow every scope of a module and return what breaks a rule, by place."""
    findings: dict[tuple[int, int, str], Finding] = {}
    scopes: list[tuple[ast.Module | ast.ClassDef | _Function, Mapping[str, str]]] = [(tree, {})]
    while scopes:
        scope, outer = scopes.pop()
        imports = imported_names(scope.body, outer)
        if isinstance(scope, _Function):
            arguments = scope.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            parameters = {a.arg for a in (*every, arguments.vararg, arguments.kwarg) if a}
            imports = {n: d for n, d in imports.items() if n not in parameters}
        flow = _Flow(path, imports, scope)
        try:
            flow.run(scope)
        except _TooLongError:
            pass
        else:
            findings.update(flow.rules.findings)
        inside = imports if not isinstance(scope, ast.ClassDef) else outer
        scopes += [(inner, inside) for inner in _scopes_in(scope)]
    return sorted(findings.values(), key=lambda f: f[1:4])


def _scopes_in(scope: ast.AST) -> list[ast.ClassDef | _Function]:
    found: list[ast.ClassDef | _Function] = []
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.ClassDef | _Function):
            found.append(node)
        else:
            todo += ast.iter_child_nodes(node)
    return found


class _Flow:
    """One scope's run."""

    def __init__(
        self, path: str, imports: Mapping[str, str], scope: ast.Module | ast.ClassDef | _Function
    ) -> None:
        hidden = set()
        for node in ast.walk(scope):  # also what an inner function declares nonlocal
            if isinstance(node, ast.Global | ast.Nonlocal):
                hidden.update(node.names)
        self.rules = Rules(path)
        self.eval = Expressions(self.rules, imports, hidden)
        self.dead = False
        self.exits: _Exits = {}
        self.watch: list[list[State]] = []
        self.opened: list[str] = []
        self.steps = 0

    @property
    def state(self) -> State | None:
        """What is known on the path being followed; None if it has ended."""
        return None if self.dead else self.rules.state

    @state.setter
    def state(self, state: State | None) -> None:
        self.dead = state is None
        if state is not None:
            self.rules.state = state

    def run(self, scope: ast.Module | ast.ClassDef | _Function) -> None:
        """Follow a scope from its first statement to each of its ends."""
        if isinstance(scope, _Function):
            arguments = scope.args
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
                value = self.eval.annotated(argument.annotation)
                self.rules.state.variables[argument.arg] = value
            for extra in (arguments.vararg, arguments.kwarg):
                if extra is not None:
                    self.rules.state.variables[extra.arg] = UNKNOWN
        self.block(scope.body)
        if not isinstance(scope, _Function):
            return
        if not self.dead:
            self.rules.scope_ends(_last(scope.body), NOTHING)
        for state, node, value in self.exits.get("return", []):
            self.state = state
            self.rules.scope_ends(node, value)

    def block(self, body: Sequence[ast.stmt]) -> None:
        """Follow statements until the path leaves them."""
        for node in body:
            if self.dead:
                return
            self.steps += 1
            if self.steps > _MAX_STEPS:
                raise _TooLongError
            watched = not _cannot_raise(node)
            if watched:
                self._watched()
            self.statement(node)
            if not self.dead:
                self.rules.temporaries_end()
                if watched:
                    self._watched()

    def _watched(self) -> None:
        if self.watch:
            self.watch[-1].append(self.rules.state.copy())

    def statement(self, node: ast.stmt) -> None:
        """Follow one statement."""
        match node:
            case ast.Expr(value=ast.Call() as call):
                self.eval.look(call)  # a task whose future nobody keeps is not waited for
            case ast.Expr(value=value):
                self.eval.read(value)
            case ast.Assign(targets=targets, value=value):
                unpacked = all(isinstance(t, ast.Tuple | ast.List) for t in targets)
                broken = self.rules.broken
                found = self.eval.look(value) if unpacked else self._assigned(value)
                failed = self.rules.broken > broken  # it raises, and nothing is bound
                self.rules.muted += failed
                for target in targets:
                    self.eval.bind(target, found, target)
                self.rules.muted -= failed
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                if value is not None:
                    found = self._assigned(value)
                    if found == UNKNOWN:
                        found = self.eval.annotated(annotation)
                    self.eval.bind(target, found, target)
            case ast.AugAssign(target=target, value=value):
                self.eval.keep(value)
                if isinstance(target, ast.Name):
                    loaded = ast.Name(target.id, ast.Load())
                    self.eval.keep(ast.copy_location(loaded, target))
                else:
                    self.eval.bind(target, UNKNOWN, target)
            case ast.Delete(targets=targets):
                self._delete(targets)
            case ast.Return(value=value):
                self._return(node, value)
            case ast.Raise(exc=error, cause=cause):
                for part in (error, cause):
                    self.eval.read(part)
                self._leave("raise", node)
            case ast.Break():
                self._leave("break", node)
            case ast.Continue():
                self._leave("continue", node)
            case ast.If():
                self.eval.read(node.test)
                self._branches([node.body, node.orelse])
            case ast.For() | ast.AsyncFor():
                self.eval.iterate(self.eval.read(node.iter), node.iter)
                self._loop(node)
            case ast.While():
                self._loop(node)
            case ast.With() | ast.AsyncWith():
                self._with(node)
            case ast.Try() | ast.TryStar():
                self._try(node)
            case ast.Match():
                self._match(node)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self.eval.capture(node)
                if node.name not in self.eval.hidden:
                    self.eval.bind(ast.Name(node.name, ast.Store()), UNKNOWN, node)
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    name = alias.asname or alias.name.partition(".")[0]
                    if name in self.eval.imports:
                        self.rules.state.variables.pop(name, None)
            case ast.Assert(test=test, msg=message):
                self.eval.read(test)
                before = self.rules.state.copy()
                self.eval.read(message)  # only in failure: what it did is forgotten
                self.state = before
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.eval.read(child)

    def _assigned(self, value: ast.expr) -> Value:
        found = self.eval.look(value)
        if isinstance(found, Many) and isinstance(value, ast.Name):  # two names for one list
            self.eval.keep(value)
            return UNKNOWN
        return found

    def _delete(self, targets: list[ast.expr]) -> None:
        for target in targets:
            if isinstance(target, ast.Name):
                before = set(tokens(self.rules.state.variables.pop(target.id, NOTHING)))
                self.rules.released(before, target, f"'{target.id}'", "deleted")
            else:
                self.eval.bind(target, UNKNOWN, target)

    def _return(self, node: ast.Return, value: ast.expr | None) -> None:
        found = self.eval.look(value)
        if value is not None:
            for token in tokens(found):
                if self.rules.owner(token) is not None:
                    self.rules.move(token, value, f"'{ast.unparse(value)}'", "return")
        self._leave("return", node, found)

    def _leave(self, kind: str, node: ast.stmt, value: Value = NOTHING) -> None:
        self.exits.setdefault(kind, []).append((self.rules.state, node, value))
        self._watched()
        self.state = None

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]]) -> None:
        before = self.rules.state
        ends: list[State | None] = []
        for body in bodies:
            self.state = before.hushed()
            self.block(body)
            ends.append(self.state)
        self.state = State.join(ends, before)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        endless = isinstance(node, ast.While) and _is_true(node.test)
        outer, self.exits = self.exits, {}
        ends: list[State | None] = []
        before = self.rules.state
        for _ in range(2):
            if isinstance(node, ast.While):
                self.eval.read(node.test)
            ends.append(self.rules.state.copy())
            self.state = self.rules.state.hushed()
            if not isinstance(node, ast.While):
                self.eval.bind(node.target, UNKNOWN, node.target)
            self.block(node.body)
            again = [s for s, _, _ in self.exits.pop("continue", [])]
            self.state = State.join([self.state, *again])
            if self.dead:
                break
        else:
            if isinstance(node, ast.While):
                self.eval.read(node.test)
            ends.append(self.state)
        breaks = [s for s, _, _ in self.exits.pop("break", [])]
        inner, self.exits = self.exits, outer
        self._merge(inner)
        if endless:
            self.state = State.join(breaks)
            return
        # Paths that left the loop make what comes after it conditional, as after an if.
        left = breaks or any(inner.values())
        self.state = State.join(ends, None if left else before)
        self.block(node.orelse)
        self.state = State.join([self.state, *breaks])

    def _merge(self, exits: _Exits) -> None:
        for kind, found in exits.items():
            self.exits.setdefault(kind, []).extend(found)

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        expecting = False
        texts: list[str] = []
        waits = False
        for item in node.items:
            call = item.context_expr
            name = _callee(call)
            expecting = expecting or name in _EXPECTING
            waits = waits or name not in _WAITLESS
            value = self.eval.read(call)
            texts.append(ast.unparse(call))
            if item.optional_vars is not None:
                texts.append(ast.unparse(item.optional_vars))
                kept = value if isinstance(value, Executor) else UNKNOWN
                self.eval.bind(item.optional_vars, kept, item.optional_vars)
        outer, self.exits = self.exits, {}
        self.opened += texts
        if expecting:
            watched = self._expecting(node.body)
            if self.dead:  # the exception that it expects
                self.state = State.join(watched)
        else:
            self.block(node.body)
        del self.opened[len(self.opened) - len(texts) :]
        inner, self.exits = self.exits, outer
        states = [s for found in inner.values() for s, _, _ in found]
        for state in (*states, *([] if self.dead else [self.rules.state])):
            # Its exit waits for its own tasks, and for those of an executor that nobody else closes.
            state.end_tasks(
                [
                    t
                    for t, e in state.tasks.items()
                    if e in texts or (waits and e not in self.opened)
                ]
            )
        self._merge(inner)

    def _expecting(self, body: Sequence[ast.stmt]) -> list[State]:
        """Follow statements of which one is meant to break a rule: it changes nothing, and ends them.

        Returns:
            The states in which an exception may leave.
        """
        self.watch.append([])
        self.rules.muted += 1
        for node in body:
            if self.dead:
                break
            before, broken = self.rules.state.copy(), self.rules.broken
            self.block([node])
            if self.rules.broken > broken:
                self.watch[-1] = [before]
                self.state = before
                break
        self.rules.muted -= 1
        return self.watch.pop()

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        outer, self.exits = self.exits, {}
        before = self.rules.state
        expected = any(_names_our_errors(handler.type) for handler in node.handlers)
        self.watch.append([])
        if expected:
            broken = self.rules.broken
            watched = self._expecting(node.body)
            if self.rules.broken > broken:  # the error that is expected: only handlers go on
                self.state = None
        else:
            self.block(node.body)
            watched = self.watch[-1]
        self.watch.pop()
        if not self.dead:
            self.block(node.orelse)
        ends = [self.state]
        raised = State.join(watched) if watched else before
        assert raised is not None
        after_handlers: list[State] = []
        for handler in node.handlers:
            self.state = raised.hushed()
            if handler.name:
                self.eval.bind(ast.Name(handler.name, ast.Store()), UNKNOWN, handler)
            self.watch.append(after_handlers)
            self.block(handler.body)
            self.watch.pop()
            ends.append(self.state)
        if node.handlers:
            self.exits.pop("raise", None)
        inner, self.exits = self.exits, outer
        if not node.finalbody:
            self.state = State.join(ends)
            self._merge(inner)
            self._pass_on([*watched, *after_handlers])
            return
        for kind, found in inner.items():
            self.state = State.join([s for s, _, _ in found])
            self.block(node.finalbody)
            if not self.dead:
                last = found[-1]
                self.exits.setdefault(kind, []).append((self.rules.state, last[1], last[2]))
        thrown = State.join([raised, *after_handlers])
        assert thrown is not None
        self.state = thrown.hushed()
        self.block(node.finalbody)
        if not self.dead:
            self._watched()
        self.state = State.join(ends)
        self.block(node.finalbody)

    def _pass_on(self, states: list[State]) -> None:
        if self.watch:
            self.watch[-1] += states

    def _match(self, node: ast.Match) -> None:
        self.eval.keep(node.subject)
        before = self.rules.state
        ends: list[State | None] = []
        complete = False
        for case in node.cases:
            self.state = before.hushed()
            for part in ast.walk(case.pattern):
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if isinstance(name, str):
                    self.eval.bind(ast.Name(name, ast.Store()), UNKNOWN, part)
            self.eval.read(case.guard)
            self.block(case.body)
            ends.append(self.state)
            bare = isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None
            complete = complete or (bare and case.guard is None)
        if not complete:
            ends.append(before)
        self.state = State.join(ends, before)


def _last(body: Sequence[ast.stmt]) -> ast.stmt:
    """Return the statement that stands last, however deep."""
    node = body[-1]
    for field in ("finalbody", "orelse", "body"):
        inner = getattr(node, field, None)
        if inner and not isinstance(node, ast.ClassDef | _Function):
            return _last(inner)
    return node


def _cannot_raise(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        names = all(isinstance(target, ast.Name) for target in node.targets)
        return names and isinstance(node.value, ast.Name | ast.Constant)
    return isinstance(node, ast.Pass | ast.Break | ast.Continue | ast.Global | ast.Nonlocal)


def _callee(node: ast.expr) -> str:
    """Return the last part of the name of what is called, or ""."""
    function = node.func if isinstance(node, ast.Call) else None
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and bool(node.value)


def _names_our_errors(node: ast.expr | None) -> bool:
    """Whether a handler is there for the errors of the rules."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node] if node is not None else []
    names = [ast.unparse(part).rpartition(".")[2] for part in parts]
    words = ("Owner", "Borrow", "Moved", "Isthmus", "Reference")
    return any(
        n.endswith("Error") and (n == "RuntimeError" or any(w in n for w in words)) for n in names
    )
