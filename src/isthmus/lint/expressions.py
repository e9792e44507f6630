"""Evaluation of expressions: what each yields, and what it does to owners and borrows."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from isthmus.lint.names import HANDLES, operation
from isthmus.lint.state import (
    NOTHING,
    SURE,
    UNKNOWN,
    Dotted,
    Executor,
    Many,
    State,
    Token,
    Value,
    tokens,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isthmus.lint.rules import Rules

__all__ = ["Expressions", "captured"]

_LOOKING = {"isinstance", "issubclass", "id", "type", "callable", "repr"}
"""Builtins that ask about the handle, which may be done with a moved one."""
_READING = {
    *("abs", "all", "any", "bool", "bytes", "dict", "divmod", "enumerate", "float", "format"),
    *("frozenset", "hash", "int", "iter", "len", "list", "max", "min", "next", "print", "range"),
    *("reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip"),
}
"""Builtins that read their arguments and keep none of them."""
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp


class Expressions:
    """Evaluates expressions in the state of the rules.

    Args:
        rules: what is checked, and the state.
        imports: local name to dotted name.
        hidden: names that the scope declares as another scope's, which are not followed.
    """

    def __init__(self, rules: Rules, imports: Mapping[str, str], hidden: Iterable[str]) -> None:
        self.rules = rules
        self.imports = imports
        self.hidden = frozenset(hidden)

    @property
    def state(self) -> State:
        """What is known here."""
        return self.rules.state

    def look(self, node: ast.expr | None) -> Value:
        """Return a value without using it: to give it another name is no use."""
        match node:
            case None | ast.Constant():
                return NOTHING
            case ast.Name(id=name):
                if name in self.state.variables:
                    return self.state.variables[name]
                return Dotted(self.imports.get(name, "")) if name not in self.hidden else UNKNOWN
            case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
                return Many(tuple(self.look(part) for part in parts))
            case ast.Starred(value=inner):
                self.state.escape(self.look(inner))
                return UNKNOWN
            case ast.NamedExpr(target=target, value=inner):
                value = self.look(inner)
                self.bind(target, value, node)
                return value
            case ast.Call():
                return self._call(node)
            case ast.Await(value=inner):
                value = self.look(inner)
                self._keep(value, node, _text(inner))
                return UNKNOWN
            case ast.IfExp(test=test, body=body, orelse=orelse):
                self.read(test)
                return self._either([body, orelse])
            case ast.BoolOp(values=[first, *rest]):
                self.read(first)
                before = self.state
                self.rules.state = before.hushed()
                for part in rest:
                    self.read(part)
                joined = State.join([before, self.state], before)
                assert joined is not None
                self.rules.state = joined
                return UNKNOWN
            case ast.Attribute(value=inner, attr=name):
                value = self.look(inner)
                if isinstance(value, Dotted):
                    return Dotted(f"{value.name}.{name}") if value.name else UNKNOWN
                self._read_value(value, inner)
                return UNKNOWN
            case ast.Lambda() | ast.GeneratorExp():
                self.capture(node)
                return UNKNOWN
            case ast.ListComp() | ast.SetComp() | ast.DictComp():
                return self._comprehension(node)
            case ast.Compare(left=left, ops=operators, comparators=others):
                handles = all(isinstance(o, ast.Is | ast.IsNot) for o in operators)
                for part in (left, *others):
                    self._touch(part) if handles else self.read(part)
                return NOTHING
            case ast.Yield(value=inner) | ast.YieldFrom(value=inner):
                if inner is not None:
                    self.keep(inner)
                return UNKNOWN
            case ast.Dict(keys=keys, values=values):
                for key in keys:
                    self.read(key)
                return Many(tuple(self.look(value) for value in values))
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.read(child)
                return UNKNOWN

    def read(self, node: ast.expr | None) -> Value:
        """Evaluate and use a value."""
        value = self.look(node)
        if node is not None:
            self._read_value(value, node)
        return value

    def keep(self, node: ast.expr) -> None:
        """Evaluate, use, and hand to code that may keep it."""
        value = self.look(node)
        self._keep(value, node, _text(node))
        if isinstance(node, ast.Name) and isinstance(value, Many):
            self.state.variables[node.id] = UNKNOWN  # whoever has the list sees what it gets later

    def bind(self, target: ast.expr, value: Value, node: ast.AST) -> None:
        """Give a target a value; what only it held before ends."""
        match target:
            case ast.Name(id=name):
                if name in self.hidden:
                    self.state.escape(value)
                    return
                before = set(tokens(self.state.variables.get(name)))
                self.state.variables[name] = value
                self.rules.released(before, node, f"'{name}'", "rebound")
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                starred = any(isinstance(p, ast.Starred) for p in parts)
                items: tuple[Value, ...] = (UNKNOWN,) * len(parts)
                if isinstance(value, Many) and len(value.items) == len(parts) and not starred:
                    items = value.items
                else:
                    self.state.escape(value)
                names = [p.id for p in parts if isinstance(p, ast.Name) and p.id not in self.hidden]
                if len(names) == len(parts):  # all at once: a swap drops nothing
                    before = set(tokens(*(self.state.variables.get(n) for n in names)))
                    self.state.variables.update(zip(names, items, strict=True))
                    self.rules.released(before, node, f"'{', '.join(names)}'", "rebound")
                else:
                    for part, item in zip(parts, items, strict=True):
                        self.bind(part, item, node)
            case ast.Starred(value=inner):
                self.bind(inner, UNKNOWN, node)
            case _:  # an attribute or an item
                for child in ast.iter_child_nodes(target):
                    if isinstance(child, ast.expr):
                        self.read(child)
                self.state.escape(value)

    def capture(self, node: ast.AST) -> None:
        """Let code that runs later have what it names."""
        for name in captured(node):
            value = self.state.variables.get(name)
            self.state.escape(value)
            if isinstance(value, Many):
                self.state.variables[name] = UNKNOWN

    def annotated(self, annotation: ast.expr | None) -> Value:
        """Return what a parameter is by its annotation; its caller may have names for it."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            text = annotation.value
        else:
            text = ast.unparse(annotation) if annotation is not None else ""
        head, dot, rest = text.partition("[")[0].strip().partition(".")
        match operation(self.imports.get(head, "") + dot + rest):
            case "OwnedProxy":
                return self.rules.new_owner(escaped=True)
            case "StoreExecutor":
                return Executor()
            case _:
                return UNKNOWN

    # ---- calls

    def _call(self, node: ast.Call) -> Value:
        function = node.func
        if isinstance(function, ast.Attribute):
            return self._method(node, function)
        value = self.look(function)
        if isinstance(value, Dotted) and value.name:
            return self._function(node, value.name)
        if isinstance(function, ast.Name) and function.id not in self.state.variables:
            if function.id in _LOOKING:
                for part in _arguments(node):
                    self._touch(part)
                return NOTHING
            if function.id in _READING:
                return self._reading(node)
        self._read_value(value, function)
        return self._unknown(node)

    def _method(self, node: ast.Call, function: ast.Attribute) -> Value:
        receiver, name = self.look(function.value), function.attr
        if isinstance(receiver, Dotted) and receiver.name:
            return self._function(node, f"{receiver.name}.{name}")
        growing = isinstance(receiver, Many) and name in ("append", "add")
        if not growing:
            self._read_value(receiver, function.value)
        if name == "owned_proxy":
            self._unknown(node)
            return self.rules.new_owner()
        if name == "proxy":
            self._unknown(node)
            return self.rules.new_owner(escaped=True, plain=True)
        if isinstance(receiver, Token) and receiver.kind == "task":
            self._unknown(node)
            self.state.escape(receiver)
            return UNKNOWN
        text = ast.unparse(function.value) if self.state.tasks or receiver else ""
        if isinstance(receiver, Executor) and name in receiver.methods:
            given = [] if not node.args else [self.look(part) for part in node.args]
            given += [self.look(keyword.value) for keyword in node.keywords]
            nodes = [*node.args, *(keyword.value for keyword in node.keywords)]
            if name == "map":  # a display of owners gives each away
                pairs = [p for n, v in zip(nodes, given, strict=True) for p in _flat(n, v)]
                nodes, given = [n for n, _ in pairs], [v for _, v in pairs]
            return self._hand_over(node, nodes, given, text, "StoreExecutor")
        if text:
            self.state.end_tasks([t for t, whose in self.state.tasks.items() if whose == text])
        if growing and isinstance(receiver, Many) and len(node.args) == 1:
            value = self.look(node.args[0])
            if isinstance(function.value, ast.Name):
                self._use_all(value, node.args[0])
                self.state.variables[function.value.id] = Many((*receiver.items, value))
                return NOTHING
            self.state.escape(value)
            return NOTHING
        return self._unknown(node)

    def _function(self, node: ast.Call, dotted: str) -> Value:
        match operation(dotted):
            case "borrow" | "mut_borrow" as which if node.args:
                value, name = self.look(node.args[0]), _text(node.args[0])
                return self.rules.borrow(value, node, name, mutable=which == "mut_borrow")
            case "clone" if node.args:
                self.read(node.args[0])
                return self.rules.new_owner()
            case "into_owned" if node.args:
                return self._into_owned(node)
            case "update" if node.args:
                self.rules.update(self.look(node.args[0]), node, _text(node.args[0]))
                return NOTHING
            case "drop" if node.args:
                value = self.look(node.args[0])
                if isinstance(value, Token) and value.kind == "loan":
                    self.state.escape(value)  # a reference is given up
                else:
                    self.rules.move(value, node, _text(node.args[0]), "drop")
                return NOTHING
            case "submit":
                return self._submit(node)
            case "StoreExecutor":
                self._unknown(node)
                owning = True
                for keyword in node.keywords:
                    if keyword.arg == "ownership" and isinstance(keyword.value, ast.Constant):
                        owning = bool(keyword.value.value)
                return Executor() if owning else UNKNOWN
            case "look":
                for part in _arguments(node):
                    self._touch(part) if dotted.endswith("is_resolved") else self.read(part)
                return UNKNOWN
            case _:
                return self._unknown(node)

    def _into_owned(self, node: ast.Call) -> Value:
        part = node.args[0]
        value = self.look(part)
        if isinstance(part, ast.Name) and value == UNKNOWN and part.id not in self.hidden:
            value = self.rules.new_owner(escaped=True, plain=True)
            self.state.variables[part.id] = value
        return self.rules.claim(value, node, _text(part))

    def _submit(self, node: ast.Call) -> Value:
        """Follow ``submit(pool.submit, args=(f, p), kwargs={...})``."""
        parts: list[ast.expr] = []
        values: list[Value] = []
        executor = ""
        if node.args:
            target = node.args[0]
            self.read(target)
            executor = ast.unparse(target.value) if isinstance(target, ast.Attribute) else ""
        places = dict(zip(("args", "kwargs"), node.args[1:], strict=False))
        for keyword in node.keywords:
            if keyword.arg in ("args", "kwargs"):
                places[keyword.arg] = keyword.value
            else:
                self.keep(keyword.value)
        for part in places.values():
            value = self.look(part)
            for inner, item in _flat(part, value):
                parts.append(inner)
                values.append(item)
        return self._hand_over(node, parts, values, executor, "submit")

    def _hand_over(
        self,
        node: ast.Call,
        parts: list[ast.expr],
        values: list[Value],
        executor: str,
        how: str,
    ) -> Value:
        given: list[Value] = []
        for part, value in zip(parts, values, strict=True):
            if isinstance(value, Many):  # owners inside of something: not followed
                self._keep(value, part, _text(part))
            elif self.rules.owner(value) is not None:
                self.rules.move(value, part, _text(part), how)
            elif not self.rules.second_task(value, part, _text(part)):
                given.append(value)
        loans = [v for v in given if isinstance(v, Token) and v.kind == "loan"]
        self.state.escape(*(v for v in given if v not in loans))
        return self.rules.new_task(executor, list(loans))

    def _reading(self, node: ast.Call) -> Value:
        for part in _arguments(node):
            self.read(part)
        return UNKNOWN

    def _unknown(self, node: ast.Call) -> Value:
        for part in _arguments(node):
            self.keep(part)
        return UNKNOWN

    # ---- the rest

    def _comprehension(self, node: _COMPREHENSIONS) -> Value:
        if any(generator.is_async for generator in node.generators):
            self.capture(node)
            return UNKNOWN
        outer = dict(self.state.variables)
        made: list[Value] = []
        first = node.generators[0].iter
        self._iterate(self.read(first), first)
        before = self.state
        ends: list[State | None] = [before]
        for _ in range(2):
            self.rules.state = self.state.hushed()
            for number, generator in enumerate(node.generators):
                if number:
                    self._iterate(self.read(generator.iter), generator.iter)
                for part in ast.walk(generator.target):
                    if isinstance(part, ast.Name):  # a name of its own: nothing is released
                        self.state.variables[part.id] = UNKNOWN
                for test in generator.ifs:
                    self.read(test)
                    self.rules.state = self.state.hushed()
            if isinstance(node, ast.DictComp):
                self.read(node.key)
                made.append(self.look(node.value))
            else:
                made.append(self.look(node.elt))
            ends.append(self.state)
        joined = State.join(ends, before)
        assert joined is not None
        for generator in node.generators:
            for part in ast.walk(generator.target):
                if isinstance(part, ast.Name):
                    joined.variables.pop(part.id, None)
                    if part.id in outer:
                        joined.variables[part.id] = outer[part.id]
        self.rules.state = joined
        return Many(tuple(dict.fromkeys(made)))

    def _iterate(self, value: Value, node: ast.expr) -> None:
        """Loop over something: its items become names that are not followed."""
        if isinstance(value, Many):
            self.state.escape(value)
            if isinstance(node, ast.Name):
                self.state.variables[node.id] = UNKNOWN

    iterate = _iterate

    def _either(self, parts: list[ast.expr]) -> Value:
        before = self.state
        ends: list[State | None] = []
        values: list[Value] = []
        for part in parts:
            self.rules.state = before.hushed()
            values.append(self.look(part))
            ends.append(self.state)
        # A name for the value while the two paths are joined, so that both results become one.
        for end, value in zip(ends, values, strict=True):
            assert end is not None
            end.variables[" either"] = value
        joined = State.join(ends, before)
        assert joined is not None
        self.rules.state = joined
        value = joined.variables.pop(" either")
        owner = self.rules.owner(value)
        if owner is not None and owner.moved is not None and owner.moved.certainty < SURE:
            return UNKNOWN  # which of the two it is may hang on whether it was moved
        return value

    def _touch(self, node: ast.expr) -> None:
        """Evaluate a question about a handle, which is no use of it."""
        value = self.look(node)
        if not isinstance(value, Token) or value.kind == "task":
            self._read_value(value, node)

    def _read_value(self, value: Value, node: ast.expr) -> None:
        if isinstance(value, Token):
            if value.kind == "task":
                self.state.escape(value)
            else:
                self.rules.use(value, node, _text(node))
        elif isinstance(value, Many):
            self.state.escape(value)  # one of its items may be taken out

    def _use_all(self, value: Value, node: ast.expr) -> None:
        for token in tokens(value):
            self.rules.use(token, node, _text(node))

    def _keep(self, value: Value, node: ast.expr, name: str) -> None:
        for token in tokens(value):
            self.rules.use(token, node, name)
        self.state.escape(value)


def captured(node: ast.AST) -> set[str]:
    """Return the names that a lambda, generator, function or class mentions."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} - HANDLES


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _flat(node: ast.expr, value: Value) -> list[tuple[ast.expr, Value]]:
    """Pair the items of a display with their own nodes, as far as they are seen."""
    if not isinstance(value, Many):
        return [(node, value)]
    parts: list[ast.expr] = []
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        parts = node.elts
    elif isinstance(node, ast.Dict):
        parts = node.values
    if len(parts) == len(value.items):
        return list(zip(parts, value.items, strict=True))
    return [(node, item) for item in value.items]


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return f"'{node.id}'"
    text = ast.unparse(node)
    return f"'{text}'" if len(text) <= 40 else "the owned proxy"
