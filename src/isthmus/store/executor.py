"""An executor whose tasks' arguments and results go through a store, by a policy.

with StoreExecutor(ProcessPoolExecutor(), store, should_proxy=ProxySize(100_000)) as executor:
    future = executor.submit(train, images)
"""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from isthmus.proxy import Proxy, extract, get_factory, is_proxy, target_class
from isthmus.store import get_key
from isthmus.store.handles import OwnedProxy, RefProxy
from isthmus.store.ownership import borrow, drop
from isthmus.store.policy import Policy, ProxyAlways, ProxyNever, ProxySize, ProxyType
from isthmus.store.scopes import change_handles, handles_in, submit, succeeded, when_done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from isthmus.store.objects import Key
    from isthmus.store.store import Store

__all__ = ["Policy", "ProxyAlways", "ProxyNever", "ProxySize", "ProxyType", "StoreExecutor"]


class StoreExecutor:
    """Wraps the client of an engine: what is large goes straight from the process that has it.

    An argument that the policy chooses is stored, lent to the task, and deleted when the task's future is
    done, however it ended; an engine that repeats a task finds it. A result that the policy chooses is
    stored by the worker and comes back as an owned proxy. A function that gets and returns handles of
    its own works as with :func:`isthmus.store.scopes.submit`. Exceptions pass as they are.

    Args:
        client: has ``submit(function, *args, **kwargs)`` and returns futures: an executor of
            ``concurrent.futures``, a Dask client, Parsl's or loky's executor.
        store: reachable from the workers.
        should_proxy: chooses, see :mod:`isthmus.store.policy`.
        ownership: whether results are owned: if not, they are plain proxies, and their objects live until
            this executor shuts down.
        close_store: whether shutting down closes the store.
    """

    def __init__(
        self,
        client: Any,
        store: Store,
        *,
        should_proxy: Policy = ProxyNever(),  # noqa: B008 - it cannot change
        ownership: bool = True,
        close_store: bool = False,
    ) -> None:
        self.client = client
        self.store = store
        self.should_proxy = should_proxy
        self.ownership = ownership
        self._close_store = close_store
        self._changed = threading.Condition()
        self._pending: dict[int, Any] = {}
        self._results: list[Key] = []
        self._numbers = iter(range(1 << 62))
        self._shut = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Submit a call; returns the client's own future.

        Keywords that are the client's (``retries`` of Dask) reach it.

        Raises:
            FullError: there is no room for an argument.
            OwnershipError: a handle among the arguments may not be given to a task now.
        """
        return self._submit(
            _Call(function, self.store, self.should_proxy, self.ownership), args, kwargs
        )

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
    ) -> Any:
        """Call a function with each item, as the client would.

        Of an executor: an iterator of results in order, where the first error cancels what has not begun.
        Of a client whose ``map`` returns futures (Dask): a list of them.

        Args:
            function: called with one item of each iterable.
            *iterables: the shortest decides.
            timeout: seconds from now for each result; of an executor alone.
            chunksize: calls in one task; of an executor alone.

        Raises:
            TimeoutError: from the iterator.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, got {chunksize}")
        calls = list(zip(*iterables, strict=False))
        if not isinstance(self.client, Executor) and hasattr(self.client, "map"):
            return [self.submit(function, *args) for args in calls]
        end = None if timeout is None else time.monotonic() + timeout
        call = _Call(function, self.store, self.should_proxy, self.ownership)
        many = _Many(call)
        futures = [
            self._submit(many, (calls[at : at + chunksize],), {})
            for at in range(0, len(calls), chunksize)
        ]
        return _in_order(futures, end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Finish or cancel what was submitted, then shut down the client (or close it); idempotent.

        When it has waited, nothing that it stored is left but owned results that somebody has.
        """
        with self._changed:
            first, self._shut = not self._shut, True
            pending = list(self._pending.values())
        if cancel_futures:
            for future in reversed(pending):
                if future is not None:
                    future.cancel()
        if isinstance(self.client, Executor):
            self.client.shutdown(wait=wait, cancel_futures=cancel_futures)
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: not self._pending)
        if first and not isinstance(self.client, Executor):
            (getattr(self.client, "close", None) or self.client.shutdown)()
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    def _submit(self, call: Any, args: Any, kwargs: Any) -> Any:
        with self._changed:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            number = next(self._numbers)
            self._pending[number] = None
        stored: list[Any] = []
        try:
            if isinstance(call, _Many):
                given: Any = ([tuple(self._store(arg, stored) for arg in one) for one in args[0]],)
            else:
                given = tuple(self._store(arg, stored) for arg in args)
            named = {name: self._store(arg, stored) for name, arg in kwargs.items()}
            future = submit(self.client.submit, args=(call, *given), kwargs=named)
        except BaseException:
            try:
                for proxy in stored:
                    if isinstance(proxy, RefProxy):
                        drop(proxy)  # no task has it
                self._delete(stored)
            finally:
                self._ended(number)
            raise
        with self._changed:
            if number in self._pending:
                self._pending[number] = future

        def settle(future: Any) -> None:
            try:
                if not self.ownership and succeeded(future):
                    self._remember(future.result())
                self._delete(stored)
            finally:
                self._ended(number)

        when_done(future, settle)
        return future

    def _store(self, obj: Any, stored: list[Any]) -> Any:
        chosen = False if is_proxy(obj) else self.should_proxy(obj)
        if chosen is False:
            return obj
        options = chosen if isinstance(chosen, dict) else {}
        if not self.ownership:
            plain = _plain(self.store, obj, options)
            stored.append(plain)
            return plain
        owned = self.store.owned_proxy(obj, **options)
        stored += [owned, borrow(owned)]
        return stored[-1]

    def _delete(self, stored: list[Any]) -> None:
        while stored:
            proxy = stored.pop()
            if isinstance(proxy, OwnedProxy):
                drop(proxy)
            elif not isinstance(proxy, RefProxy):
                self.store.evict(get_key(proxy))

    def _remember(self, result: Any) -> None:
        for one in result if type(result) is list else [result]:
            if issubclass(type(one), _Own):
                self._results.append(get_key(one))

    def _ended(self, number: int) -> None:
        with self._changed:
            del self._pending[number]
            self._changed.notify_all()
            last = self._shut and not self._pending
        if last:
            self._end()

    def _end(self) -> None:
        with self._changed:
            if self._pending:
                return
            results, self._results = self._results, []
        for key in results:
            self.store.evict(key)
        if self._close_store:
            self.store.close()


class _Call:
    """What a worker runs: the function, and what the policy says of its result."""

    def __init__(
        self, function: Callable[..., Any], store: Store, policy: Policy, ownership: bool
    ) -> None:
        self.parts = function, store, policy, ownership
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        function, store, policy, ownership = self.parts
        result = function(*args, **kwargs)
        if issubclass(type(result), _Own):
            result = extract(result)  # an argument, whose object goes now
        result = change_handles(lambda h: h if isinstance(h, OwnedProxy) else extract(h), result)
        if is_proxy(result) or any(True for _ in handles_in(result)):
            return result
        chosen = policy(result)
        if chosen is False:
            return result
        options = chosen if isinstance(chosen, dict) else {}
        if ownership:
            return store.owned_proxy(result, **options)
        return _plain(store, result, options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Call, self.parts


class _Many:
    """A chunk of a `map`: several calls in one task."""

    def __init__(self, call: _Call) -> None:
        self.call = call

    def __call__(self, calls: list[tuple[Any, ...]]) -> list[Any]:
        return [self.call(*args) for args in calls]


class _Own(Proxy[Any]):
    """A proxy that an executor made of an argument or a result: its object is the executor's."""

    __slots__ = ()


def _plain(store: Store, obj: Any, options: dict[str, Any]) -> Any:
    proxy = store.proxy(obj, **options)
    return _Own(get_factory(proxy), target_class(proxy))


def _in_order(futures: list[Any], end: float | None) -> Iterator[Any]:
    futures.reverse()  # and popped: a result that was handed out is not kept
    try:
        while futures:
            left = None if end is None else max(0.0, end - time.monotonic())
            yield from futures.pop().result(left)
    finally:
        for future in futures:
            future.cancel()
