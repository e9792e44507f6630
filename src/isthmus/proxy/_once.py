"""Calling a factory once, whoever asks: many threads, the factory itself, a forked child.

One table for the process says which proxies are being resolved and by which thread. The lock around it
is held for a few dictionary operations and never while a factory runs.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from isthmus.proxy._kin import SHAPE, is_proxy, kin
from isthmus.proxy._shape import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ELSEWHERE",
    "Attempt",
    "begin",
    "describe",
    "finish",
    "resolve",
    "run",
    "settle",
    "take",
    "unsettle",
]

_get = object.__getattribute__
_set_class = vars(object)["__class__"].__set__
_me = threading.get_ident


class Attempt:
    """One call of a factory under way, and who waits for it."""

    __slots__ = ("ended", "error", "over", "owner", "watchers")

    def __init__(self, owner: int | None) -> None:
        self.owner = owner  # the thread that calls the factory; None while queued, free to be taken
        self.ended = threading.Lock()
        self.ended.acquire()
        self.over = False
        self.error: BaseException | None = None
        self.watchers: list[Callable[[BaseException | None], None]] = []


ELSEWHERE = -1  # owner of an attempt that a factory's own resolve_async runs

# Reentrant: the garbage collector or a signal's handler may run code that uses a proxy while we hold it.
_guard = threading.RLock()
_attempts: dict[int, Attempt] = {}  # by id of the proxy, which somebody using it keeps alive
_waiting: dict[int, Attempt] = {}  # what a thread waits for


def resolve(proxy: Any) -> Any:
    """Return the target, calling the factory if nobody has yet.

    Raises:
        RecursionError: the factory uses the proxy that it was called for, directly or by way of others.
        BaseException: whatever the factory raises, with a note that names the proxy. Every thread that
            waited gets it; the next use tries again.
    """
    me = _me()
    while True:
        mine = None
        try:
            with _guard:
                try:
                    return _get(proxy, "_isthmus_target")
                except AttributeError:
                    pass
                attempt = _attempts.get(id(proxy))
                if attempt is None:
                    attempt = mine = Attempt(me)
                    _attempts[id(proxy)] = mine
                elif attempt.owner is None:
                    attempt.owner = me  # queued for a background thread: we are here first
                    mine = attempt
                else:
                    _refuse_cycle(proxy, attempt, me)
                    _waiting[me] = attempt
            if mine is not None:
                return run(proxy, mine)
        except BaseException as error:
            if mine is not None:  # Ctrl-C between two lines: nobody else would end it
                _end(proxy, mine, error)
            raise
        try:
            with attempt.ended:  # in one step, or Ctrl-C could come between taking and giving back
                pass
        finally:
            with _guard:
                _waiting.pop(me, None)
        # An interrupt was meant for the thread that got it; whoever waits tries again.
        if isinstance(attempt.error, Exception):
            raise attempt.error


def begin(
    proxy: Any, watcher: Callable[[BaseException | None], None], *, owner: int | None
) -> Attempt | None:
    """Open an attempt for the background, or watch the one under way.

    Returns the new attempt; None if there is one, or if the proxy is resolved. `watcher` is called when
    the attempt ends, with its error, and at once for a proxy that is resolved.
    """
    with _guard:
        try:
            _get(proxy, "_isthmus_target")
        except AttributeError:
            attempt = _attempts.get(id(proxy))
            if attempt is None:
                attempt = _attempts[id(proxy)] = opened = Attempt(owner)
            else:
                opened = None
            attempt.watchers.append(watcher)
            return opened
    watcher(None)
    return None


def take(attempt: Attempt) -> bool:
    """Make this thread the owner of a queued attempt; False if another was faster."""
    with _guard:
        if attempt.owner is not None:
            return False
        attempt.owner = _me()
        return True


def run(proxy: Any, attempt: Attempt) -> Any:
    """Call the factory for an attempt that this thread owns."""
    return finish(proxy, attempt, _get(proxy, "_isthmus_factory"))


def finish(proxy: Any, attempt: Attempt, source: Callable[[], Any]) -> Any:
    """End an attempt with what `source` returns or raises, and wake all who wait for it."""
    error = None
    try:
        target = source()
        if is_proxy(target):
            target = resolve(target)  # so that the shape is right, and `extract` gives what is bare
        settle(proxy, target)
        return target
    except BaseException as raised:
        error = raised
        note = f"while resolving {describe(proxy)}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise
    finally:
        _end(proxy, attempt, error)
        del error  # or its traceback and this frame would hold each other


def _end(proxy: Any, attempt: Attempt, error: BaseException | None) -> None:
    """Forget an attempt and wake all who wait for it; does nothing for one that has ended."""
    with _guard:
        if _attempts.get(id(proxy)) is attempt:
            del _attempts[id(proxy)]
        watchers, attempt.watchers = attempt.watchers, []
        # For nobody else: the error's traceback refers to this attempt, and would keep the proxy.
        if error is not None and attempt in _waiting.values():
            attempt.error = error
        if not attempt.over:
            attempt.over = True
            attempt.ended.release()
    for watcher in watchers:
        watcher(error)


def settle(proxy: Any, target: Any) -> None:
    """Give a proxy its target, and the type with the shape of the target's real class."""
    kind = type(proxy)
    kind._isthmus_settle(proxy, target)
    shape = shape_of(type(target))
    if getattr(kind, SHAPE) != shape:
        # The assignment that Python itself offers (`obj.__class__ = other`), so every interpreter's
        # caches know of it. Calls under way hold bound methods of the old type, which stays valid.
        _set_class(proxy, kin(kind, shape))


def unsettle(proxy: Any) -> Any:
    """Take a proxy's target away, so that its next use calls the factory again; return the target.

    Keep what this returns until the next time: calls of the C type that are under way in other threads
    work on the target without a reference of their own.
    """
    with _guard:
        return type(proxy)._isthmus_unsettle(proxy)


def describe(proxy: Any) -> str:
    """Return a text for a proxy that says what it is, without I/O."""
    factory = _get(proxy, "_isthmus_factory")
    about = _get(proxy, "_isthmus_about")
    of = f" of {about.module}.{about.qualname}" if about is not None else ""
    own = getattr(type(factory), "__proxy_repr__", None)
    try:
        text = own(factory) if own is not None else repr(factory)
    except Exception:  # a note about an error must not raise another
        text = object.__repr__(factory)
    return f"<unresolved {type(proxy).__name__}{of} from {text}>"


def _refuse_cycle(proxy: Any, attempt: Attempt, me: int) -> None:
    """Raise if waiting for `attempt` would wait for this very thread."""
    behind: Attempt | None = attempt
    while behind is not None:
        if behind.owner == me:
            raise RecursionError(
                f"{describe(proxy)} resolves itself: its factory uses the proxy that it was called "
                "for. Let the factory work on the data it was given, or hand it the bare object"
            )
        behind = _waiting.get(behind.owner) if behind.owner is not None else None


def _forget_other_threads() -> None:
    """In a forked child only the forking thread lives: attempts of the others will never end."""
    global _guard
    _guard = threading.RLock()
    me = _me()
    for key in [key for key, attempt in _attempts.items() if attempt.owner != me]:
        del _attempts[key]
    _waiting.clear()


# Held across the fork, so that the child's table is not one caught in the middle of a change.
os.register_at_fork(
    before=lambda: _guard.acquire(),
    after_in_parent=lambda: _guard.release(),
    after_in_child=_forget_other_threads,
)
