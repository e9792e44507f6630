"""Giving owned proxies and references to tasks, of any engine whose futures tell when they are done.

    future = submit(pool.submit, args=(sum, borrow(owned)))

A reference ends when the future is done. An owned proxy moves: it is the task's from then on, and goes
with the task unless that returns it or moves it on. Nothing is deleted before an engine has given up
repeating a task: an attempt that fails leaves the object for the next, and the caller keeps it alive.
"""

from __future__ import annotations

import functools
import inspect
import threading
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from isthmus.errors import BorrowedError, OwnershipError
from isthmus.proxy import is_proxy
from isthmus.proxy import target_class as about_of
from isthmus.store.handles import (
    Handle,
    HandleFactory,
    OwnedProxy,
    arrive,
    end_handle,
    factory_of,
    make,
    owners,
    refresh,
)
from isthmus.store.renewal import Holding, hold
from isthmus.store.rules import Borrow, Loan, Owner, site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "Task",
    "change_handles",
    "handles_in",
    "submit",
    "succeeded",
    "task",
    "when_done",
]

P = ParamSpec("P")
R = TypeVar("R")

_POLL_SECONDS = 0.05


def submit(
    submit: Callable[..., Any],
    *,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    is_task: bool | None = None,
) -> Any:
    """Call what an engine submits tasks with, and see to the handles among the arguments.

    Handles are found in `args`, in `kwargs`, and in lists, tuples and dictionaries in these. A function
    that comes first, as for ``pool.submit``, runs as a :func:`task`. If none does, as for a Parsl app, the
    engine's own function should be made of ``task(function)``: of any other, owned proxies go when the
    future is done, and cannot be returned.

    Args:
        submit: the engine's function, called with `args` and `kwargs`.
        args: positional arguments for it.
        kwargs: keyword arguments for it.
        is_task: whether what will run is a :func:`task`; None to find out.

    Returns:
        What `submit` returned: the engine's own future. It need not have ``add_done_callback``: one with
        ``future()`` (Ray) or ``done()`` will do.

    Raises:
        OwnershipError: a rule would be broken; nothing was submitted.
        TypeError: what `submit` returned does not tell when it is done.
    """
    parcel = _Parcel(site())
    try:
        packed = parcel.pack(tuple(args))
        named = parcel.pack(dict(kwargs or {}))
        if is_task is None:
            is_task = isinstance(getattr(submit, "func", None), Task)  # of a Parsl app
            if packed and callable(packed[0]) and not is_proxy(packed[0]):
                packed = (task(packed[0]), *packed[1:])
                is_task = True
        parcel.task = is_task
        future = submit(*packed, **named)
        parcel.watch(future)
    except BaseException:
        parcel.unpack()
        raise
    return future


class Task(Generic[P, R]):
    """A function that sees to the handles that it gets and returns; made by :func:`task`."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, then end the references and delete the owned objects it was given."""
        mine = [handle for handle in handles_in((args, kwargs)) if _received(handle)]
        for handle in mine:
            factory_of(handle).travels = ""  # it has arrived
        try:
            result = self.function(*args, **kwargs)
            _check_ends(mine, result)
        except BaseException:
            for handle in mine:
                factory_of(handle).travels = "task"  # the engine may send it elsewhere
            raise
        result = change_handles(_leave, result)
        for handle in mine:
            factory = factory_of(handle)
            right = factory.right
            if not isinstance(right, Owner):
                end_handle(handle)
            elif not right.gone:
                right.leave("end the task of", "went with its task, which had ended")
                refresh(handle)
                factory.store.evict(factory.key)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        return task, (self.function,)

    def __repr__(self) -> str:
        return f"<task {self.function!r}>"


def task(function: Callable[P, R]) -> Task[P, R]:
    """Return a function that can take owned proxies as a task, and return them.

    ``submit`` does this to the function it is given. Do it yourself where an engine has a function of its
    own: ``python_app(task(function))``.

    Raises:
        TypeError: it is a coroutine function, which ends after it returned.
    """
    if isinstance(function, Task):
        return function
    if inspect.iscoroutinefunction(function):
        raise TypeError(
            f"{function!r} is a coroutine function, and a task with handles has to be a plain one: its "
            "references would end before it runs"
        )
    return Task(function)


def _received(handle: Any) -> bool:
    right = factory_of(handle).right
    return right.holding is None if isinstance(right, Owner) else bool(right and right.received)


def _check_ends(mine: list[Any], result: Any) -> None:
    """Refuse a task's end that breaks a rule."""
    returned = list(handles_in(result))
    for handle in returned:
        factory = factory_of(handle)
        if not isinstance(handle, OwnedProxy):
            raise OwnershipError(
                "a reference ends with its task",
                factory.__proxy_repr__(),
                "is borrowed, and was returned from a task",
                "return extract(reference), or a clone() of what it refers to",
            )
        assert isinstance(factory.right, Owner)
        factory.right.check_alone("return")
    kept = {id(handle) for handle in returned}
    for handle in mine:
        right = factory_of(handle).right
        if isinstance(right, Borrow):
            right.active()  # forgets the loans that have ended
            if right.loans:
                raise BorrowedError(
                    "a reference ends with its task",
                    right.owner.which,
                    f"was lent on to a task at {right.loans[0].where} that has not ended",
                    "wait there for its result",
                )
        elif right is not None and not right.gone and id(handle) not in kept:
            right.check_alone("end the task of")


def _leave(handle: Any) -> Any:
    """Return the handle with which an object leaves its task: it moves when it is pickled."""
    factory = factory_of(handle)
    owner = factory.right
    assert isinstance(owner, Owner)
    owner.leave("return", "was returned from its task")
    holding = owner.holding
    if holding is None:
        holding = hold(Holding(factory.identity, factory.key, factory.lease, factory._store))
    return _again(handle, factory, holding, "result")


def _again(handle: Any, factory: HandleFactory[Any], holding: Holding, how: str) -> Any:
    twin = factory.twin()
    twin.travels = how
    owner = owners[factory.identity, factory.key] = Owner(factory.__proxy_repr__(), holding)
    return make(OwnedProxy, twin, about_of(handle), owner)


class _Parcel:
    """What goes with one task, until that has ended."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.task = False
        self._moved: list[tuple[Owner, Holding]] = []
        self._lent: list[tuple[Borrow, Loan, bool]] = []
        self._twins: list[Any] = []
        self._lock = threading.Lock()

    def pack(self, arguments: Any) -> Any:
        """Return arguments with the task's handles in place of the caller's."""
        return change_handles(self._give, arguments)

    def _give(self, handle: Any) -> Any:
        factory = factory_of(handle)
        right = factory.right
        twin = factory.twin()
        if isinstance(right, Owner):
            right.leave("move", f"was moved to a task at {self.where}")
            holding = right.holding
            if holding is None:  # a task moves on what it was given
                holding = hold(
                    Holding(factory.identity, factory.key, factory.lease, factory._store)
                )
            holding.passing = True
            self._moved.append((right, holding))
            refresh(handle)
        elif right is None or factory.travels == "over":
            factory()  # raises
        else:
            alive = right.handle
            self._lent.append((right, right.lend(self.where), alive))
        kind = next(kind for kind in type(handle).__mro__ if kind in Handle.__subclasses__())
        given = arrive(kind, twin, about_of(handle))
        self._twins.append(given)
        return given

    def unpack(self) -> None:
        """Undo `pack`: there is no task."""
        for owner, holding in self._moved:
            owner.gone = ""
            if owner.holding is holding:
                holding.passing = False
            else:
                holding.release()
        for borrow, loan, alive in self._lent:
            borrow.handle = alive
            borrow.end(loan) if not alive else borrow.loans.remove(loan)

    def watch(self, future: Any) -> None:
        """See to it that the task's end is noticed."""
        if not self._twins and not self.task:
            return
        done = when_done(future, self.end)
        for _, loan, _ in self._lent:
            loan.done = done

    def end(self, future: Any) -> None:
        """End what the task was lent, and delete what it was given and nobody has any more."""
        with self._lock:
            moved, self._moved = self._moved, []
            lent, self._lent = self._lent, []
            twins, self._twins = self._twins, []
        for borrow, loan, _ in lent:
            borrow.end(loan)
        for twin in twins:
            end_handle(twin)
        well = succeeded(future)
        if well and self.task and hasattr(future, "set_running_or_notify_cancel"):
            for handle in handles_in(future.result()):  # of a pool of threads: it was not pickled
                factory_of(handle).travels = ""
        for _, holding in moved:
            if well and self.task:
                holding.release()
            else:
                holding.evict()


def when_done(future: Any, callback: Callable[[Any], object]) -> Callable[[], bool]:
    """Call back when an engine's future is done; returns what tells whether it is.

    Raises:
        TypeError: it has no way to tell.
    """
    native = future
    if not hasattr(future, "add_done_callback") and callable(getattr(future, "future", None)):
        native = future.future()  # Ray
    done: Callable[[], bool] | None = getattr(native, "done", None)
    if not callable(done):
        raise TypeError(
            f"a {type(future).__qualname__} does not tell when its task has ended (it has neither done() "
            "nor future()): it may run, while what it was given is its caller's again; wrap the client in "
            "one that returns a concurrent.futures.Future"
        )
    if hasattr(native, "add_done_callback"):
        native.add_done_callback(callback)
    else:
        threading.Thread(target=_poll, args=(native, callback), daemon=True).start()
    return done


def _poll(future: Any, callback: Callable[[Any], object]) -> None:
    pause = threading.Event()
    while not future.done():
        pause.wait(_POLL_SECONDS)
    callback(future)


def succeeded(future: Any) -> bool:
    """Return whether a future that is done has a result."""
    status = getattr(future, "status", None)
    if isinstance(status, str):  # of Dask: asking it for the exception would wait for its scheduler
        return status == "finished"
    try:
        return not future.cancelled() and future.exception() is None
    except BaseException:  # whatever an engine says of a task that it lost
        return False


def handles_in(value: Any) -> Iterator[Any]:
    """Yield the handles in a value, its lists, tuples and dictionaries."""
    kind = type(value)
    if issubclass(kind, Handle):
        yield value
    elif kind is list or kind is tuple:
        for item in value:
            yield from handles_in(item)
    elif kind is dict:
        for item in value.values():
            yield from handles_in(item)


def change_handles(change: Callable[[Any], Any], value: Any) -> Any:
    """Return a value with its handles changed; itself if there are none."""
    kind = type(value)
    if issubclass(kind, Handle):
        return change(value)
    if (kind is list or kind is tuple or kind is dict) and any(True for _ in handles_in(value)):
        if kind is dict:
            return {key: change_handles(change, item) for key, item in value.items()}
        return kind(change_handles(change, item) for item in value)
    return value
