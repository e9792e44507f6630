"""Which objects a connector is for: the policies that a `MultiConnector` routes by."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from isthmus.codec import load_callable
from isthmus.errors import SpecError
from isthmus.spec import Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Policy", "Request", "class_names"]


class Request(NamedTuple):
    """What is known of an object that wants a place."""

    size: int | None
    """Bytes as encoded; None where a key is reserved before the object exists."""
    types: tuple[str, ...]
    """Names of its class and of all that it inherits from, see `class_names`; empty if not known."""
    host: str
    """Where it was made."""
    consumers: tuple[str, ...]
    """Hosts where it will be used, as far as `put` was told."""
    tags: frozenset[str]
    """What `put` was told that its place must have."""

    def __str__(self) -> str:
        size = (
            "an object of unknown size" if self.size is None else f"an object of {self.size} bytes"
        )
        kind = f" and type {self.types[0]}" if self.types else ""
        for_whom = f" for {', '.join(self.consumers)}" if self.consumers else ""
        tags = f" tagged {', '.join(sorted(self.tags))}" if self.tags else ""
        return f"{size}{kind} made on {self.host}{for_whom}{tags}"


class Policy(Spec):
    """Which objects a connector takes. What a policy does not mention, it does not restrict.

    Raises:
        SpecError: `min_bytes` is negative, or more than `max_bytes`.
    """

    min_bytes: int = 0
    """Size of the smallest object."""
    max_bytes: int | None = None
    """Size of the largest object."""
    types: tuple[str, ...] = ()
    """Patterns of class names, one of which the object's class or one that it inherits from has to match:
    ``ndarray``, ``numpy.ndarray``, ``torch.*``. Nothing is imported for it."""
    hosts: tuple[str, ...] = ()
    """Patterns (``gpu-*``) of the hosts that may put. One that begins with ``^`` is a regular expression,
    as in every field of patterns."""
    consumers: tuple[str, ...] = ()
    """Patterns of the hosts that can read. Every consumer that a `put` names has to match one; a `put`
    that names none is refused, because its consumer may be anywhere."""
    tags: tuple[str, ...] = ()
    """What the connector has: sites that reach it, qualities. A `put` may ask for any of these."""
    requires: tuple[str, ...] = ()
    """Tags without which the connector takes nothing."""
    accepts: str | None = None
    """``module:function`` of your own: gets the `Request`; False, or a reason as text, refuses."""
    priority: float | str = 0
    """Among connectors that take an object the highest wins, then the first. A number, or
    ``module:function`` that gets the `Request` and returns one."""

    def __post_init__(self) -> None:
        for field in ("types", "hosts", "consumers", "tags", "requires"):
            # A list or a set from a constructor has to equal the tuple that comes off the wire.
            msgspec.structs.force_setattr(self, field, names(getattr(self, field)))
        if self.min_bytes < 0 or (self.max_bytes is not None and self.max_bytes < self.min_bytes):
            raise SpecError(
                "Policy",
                f"min_bytes must be from 0 to max_bytes, got {self.min_bytes} and {self.max_bytes}",
            )

    def refuses(self, request: Request) -> str:
        """Return why the connector does not take an object, an empty string if it does.

        Raises:
            CodecError: `accepts` cannot be imported.
        """
        if request.size is not None:
            if request.size < self.min_bytes:
                return f"takes at least {self.min_bytes} bytes"
            if self.max_bytes is not None and request.size > self.max_bytes:
                return f"takes at most {self.max_bytes} bytes"
        if self.types and not any(_any_match(self.types, name) for name in request.types):
            return f"takes types {', '.join(self.types)}"
        if self.hosts and not _any_match(self.hosts, request.host):
            return f"takes from hosts {', '.join(self.hosts)}"
        if self.consumers:
            out = [host for host in request.consumers if not _any_match(self.consumers, host)]
            if out or not request.consumers:
                who = f", not {', '.join(out)}" if out else ", and no consumer was named"
                return f"is for consumers {', '.join(self.consumers)}{who}"
        if lacking := request.tags.difference(self.tags):
            return f"lacks tags {', '.join(sorted(lacking))}"
        if missing := set(self.requires) - request.tags:
            return f"requires tags {', '.join(sorted(missing))}"
        if self.accepts is not None:
            answer = load_callable(self.accepts)(request)
            if isinstance(answer, str) or not answer:
                return answer or f"{self.accepts} refuses"
        return ""

    def rank(self, request: Request) -> float:
        """Return the priority for an object.

        Raises:
            CodecError: `priority` names a function that cannot be imported.
        """
        if isinstance(self.priority, str):
            return float(load_callable(self.priority)(request))
        return self.priority


def names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return one name or several as a tuple; a set's in order."""
    if isinstance(given, str):
        return (given,)
    return tuple(sorted(given) if isinstance(given, set | frozenset) else given)


def class_names(cls: type[Any] | str) -> tuple[str, ...]:
    """Return the names by which policies know a class, along its method resolution order.

    For each class: ``module.qualname``; ``package.qualname``, which is mostly how it is imported
    (``pandas.DataFrame``); and ``qualname``. ``object`` is left out, and a string is one such name.
    """
    if isinstance(cls, str):
        return (cls,)
    found: dict[str, None] = {}
    for one in cls.__mro__[:-1] or cls.__mro__:
        package = one.__module__.partition(".")[0]
        for prefix in (f"{one.__module__}.", f"{package}.", ""):
            found[f"{prefix}{one.__qualname__}"] = None
    return tuple(found)


def _any_match(patterns: tuple[str, ...], name: str) -> bool:
    return any(
        re.search(pattern, name) if pattern.startswith("^") else fnmatchcase(name, pattern)
        for pattern in patterns
    )
