"""Resolving in the background: futures, and the daemon threads that call factories.

Threads live for a burst: one starts when there is work and ends when there is none, so nothing idles
and nothing needs to be shut down. At most ``MAX_THREADS`` run; a proxy that is used while its call is
still queued is resolved by its user, so factories that use other proxies cannot starve each other.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.proxy import _once
from isthmus.proxy._kin import is_proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["MAX_THREADS", "ResolveFuture", "start"]

T = TypeVar("T")
MAX_THREADS = min(32, (os.cpu_count() or 1) + 4)
_get = object.__getattribute__


class ResolveFuture(Future[T]):
    """The target of a proxy, when it is there: ``result(timeout)``, ``done()``, or ``await``."""

    def __init__(self) -> None:
        super().__init__()
        # Running from the start: a fetch that others wait for cannot be cancelled by one of them.
        self.set_running_or_notify_cancel()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in asyncio's running loop.

        Raises:
            RuntimeError: no asyncio loop is running here.
        """
        # Who awaits has imported asyncio; the proxy itself has no use for it.
        asyncio = sys.modules.get("asyncio")
        if asyncio is None:
            raise RuntimeError("a ResolveFuture is awaited from asyncio; elsewhere call result()")
        generator: Generator[Any, None, T] = asyncio.wrap_future(self).__await__()
        return generator


def start(proxy_or_factory: Any) -> ResolveFuture[Any]:
    """Begin fetching; see :func:`isthmus.proxy.resolve_async`."""
    if is_proxy(proxy_or_factory):
        return _start_proxy(proxy_or_factory)
    if callable(proxy_or_factory):
        return _start_factory(proxy_or_factory)
    raise TypeError(
        f"resolve_async needs a proxy or a factory, got {proxy_or_factory!r} of type "
        f"{type(proxy_or_factory).__name__}"
    )


def _start_proxy(proxy: Any) -> ResolveFuture[Any]:
    future: ResolveFuture[Any] = ResolveFuture()

    def ended(error: BaseException | None) -> None:
        if error is None:
            future.set_result(_get(proxy, "_isthmus_target"))
        else:
            future.set_exception(error)

    factory = _get(proxy, "_isthmus_factory")
    elsewhere = hasattr(type(factory), "resolve_async")
    attempt = _once.begin(proxy, ended, owner=_once.ELSEWHERE if elsewhere else None)
    if attempt is None:
        return future
    if not elsewhere:
        _submit(lambda: _quietly(_run_if_free, proxy, attempt))
        return future
    try:
        fetch = factory.resolve_async()
    except BaseException:
        _quietly(_once.finish, proxy, attempt, _raiser())
    else:
        fetch.add_done_callback(lambda done: _quietly(_once.finish, proxy, attempt, done.result))
    return future


def _start_factory(factory: Any) -> ResolveFuture[Any]:
    future: ResolveFuture[Any] = ResolveFuture()

    def settle(source: Callable[[], Any]) -> None:
        try:
            result = source()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    if hasattr(type(factory), "resolve_async"):
        factory.resolve_async().add_done_callback(lambda inner: settle(inner.result))
    else:
        _submit(lambda: settle(factory))
    return future


def _run_if_free(proxy: Any, attempt: _once.Attempt) -> None:
    if _once.take(attempt):
        _once.run(proxy, attempt)


def _quietly(call: Callable[..., Any], *args: Any) -> None:
    # Told to everybody who waits; nobody looks at this thread.
    with contextlib.suppress(BaseException):
        call(*args)


def _raiser() -> Callable[[], Any]:
    error = sys.exc_info()[1]

    def again() -> Any:
        assert error is not None
        raise error

    return again


_lock = threading.Lock()
_jobs: collections.deque[Callable[[], object]] = collections.deque()
_running = 0


def _submit(job: Callable[[], object]) -> None:
    global _running
    with _lock:
        _jobs.append(job)
        if _running == MAX_THREADS:
            return
        _running += 1
    threading.Thread(target=_work, name="isthmus-resolve", daemon=True).start()


def _work() -> None:
    global _running
    while True:
        with _lock:
            if not _jobs:
                _running -= 1
                return
            job = _jobs.popleft()
        job()


def _forget_threads() -> None:
    """In a forked child there are no such threads; what they were doing is done anew when used."""
    global _lock, _running
    _lock = threading.Lock()
    _running = 0
    _jobs.clear()


os.register_at_fork(after_in_child=_forget_threads)
