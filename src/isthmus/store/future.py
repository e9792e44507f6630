"""Futures that travel: one process sets the object, others wait for it, wherever each of them runs.

An engine's own future tells when a task has ended. This one tells when an object is there, whichever
engine runs the task that makes it, and before that task has ended (dissertation, 4.3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from isthmus.codec.failures import Failure
from isthmus.connectors import ListableConnector
from isthmus.errors import AlreadySetError, MissingObjectError, RemoteError
from isthmus.proxy import Proxy, TargetClass, load_class
from isthmus.store.awaiting import AwaitingFactory, seconds
from isthmus.store.factory import read_wire, short

if TYPE_CHECKING:
    from collections.abc import Generator

    from isthmus import codec
    from isthmus.store.store import Store

__all__ = ["Future", "future_from_wire"]

T = TypeVar("T")
_LOOKED_AT_BYTES = 1 << 16  # of what was set before, to name it in an error


class Future(Generic[T]):
    """An object that is not there yet; made by :meth:`Store.future`.

    It pickles small, with or without its result, and every copy is as good as any other: one is set,
    the others wait. What it was set to lies in the store like any object, until somebody calls
    :meth:`evict`, resolves a proxy made with ``evict=True``, or a lease that ``set_result`` was given
    runs out. A future that nobody sets leaves nothing behind.

    Nothing tells a future that its producer died: choose a timeout, here or for each wait. A timeout of
    None is the future's own, ``math.inf`` is for ever.
    """

    __slots__ = ("__weakref__", "_about", "_factory", "_is_set")

    def __init__(self, factory: AwaitingFactory[T], about: TargetClass | None) -> None:
        self._factory = factory
        self._about = about
        self._is_set = False  # as far as this copy knows

    @property
    def store(self) -> Store:
        """The store where the result will lie, opened in this process if need be."""
        return self._factory.store

    @property
    def key(self) -> tuple[Any, ...]:
        """The result's key in the store."""
        return self._factory.key

    @property
    def timeout(self) -> float | None:
        """Seconds to wait where nothing else is said, None for ever."""
        return self._factory.timeout

    def set_result(
        self, obj: T, *, serializer: codec.Serializer | None = None, **options: Any
    ) -> None:
        """Store the object and wake all who wait for it.

        Args:
            obj: any object that the serializer takes.
            serializer: used for this object alone; give ``proxy`` its inverse.
            **options: handed to the connector's ``put_at``: ``lease`` and ``held``, in place of what
                ``store.future`` was told.

        Raises:
            AlreadySetError: this future was set before, here or elsewhere.
            TypeError: the object is not of the class that ``store.future(cls)`` was told.
            CodecError: the object cannot be serialized; the future is not set.
            FullError: there is no room for it; the future is not set.
        """
        cls = None if self._about is None else load_class(self._about)
        if cls is not None and not isinstance(obj, cls):
            raise TypeError(
                f"{self!r} is of {cls.__qualname__} and cannot be set to a {type(obj).__qualname__}; "
                "make it with the right class, or with none"
            )
        self._set(obj, serializer, options)

    def set_exception(self, error: BaseException, **options: Any) -> None:
        """Store an exception, which all who wait for the result then raise.

        They see its traceback as text, as the cause. One that cannot be pickled, or whose class they do
        not have, reaches them as a ``RemoteError``; so does one that is no ``Exception`` and would
        end their process.

        Raises:
            AlreadySetError: this future was set before, here or elsewhere.
            TypeError: it is not an exception.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"set_exception takes an exception, not a {type(error).__qualname__}")
        if not isinstance(error, Exception):
            stop = RemoteError(type(error).__qualname__, str(error))
            error = stop.with_traceback(error.__traceback__)
        self._set(Failure(error), None, options)

    def result(self, timeout: float | None = None) -> T:
        """Return the object, once it is there; blocks this thread.

        The object is shared with every caller that gets it from the store's cache.

        Raises:
            WaitTimeoutError: it was not set in time.
            MissingObjectError: it was set, and evicted.
            BaseException: whatever ``set_exception`` was given.
        """
        outcome = self._outcome(timeout)
        if isinstance(outcome, Failure):
            raise outcome.error
        return outcome

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the exception that was set, None if it was a result; blocks until either is.

        Raises:
            WaitTimeoutError: neither was set in time.
            MissingObjectError: it was set, and evicted.
        """
        outcome = self._outcome(timeout)
        return outcome.error if isinstance(outcome, Failure) else None

    def done(self) -> bool:
        """Return whether the future is set; asks the channel, unless this copy knows."""
        if not self._is_set:
            self._is_set = self.store.exists(self.key)
        return self._is_set

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in asyncio's running loop without blocking it, for as long as the future's own timeout.

        Any number can be awaited at once: one thread waits for all. ``asyncio.wait_for`` shortens it.
        """
        import asyncio

        factory = self._factory
        generator: Generator[Any, None, T] = asyncio.wrap_future(
            factory.arrive(seconds(factory.timeout), factory.take)
        ).__await__()
        result = yield from generator
        self._is_set = True
        return result

    def proxy(
        self,
        *,
        timeout: float | None = None,
        evict: bool = False,
        deserializer: codec.Deserializer | None = None,
    ) -> Proxy[T]:
        """Return a proxy of the result, as many as you like; does no I/O.

        Its first use waits for the result. Until then it knows its class only if the future was told.

        Args:
            timeout: seconds that its first use waits; a ``WaitTimeoutError`` follows.
            evict: delete the stored object when this proxy is first resolved.
            deserializer: travels with the proxy and is used wherever it is resolved.
        """
        mine = self._factory
        factory = AwaitingFactory[T](
            mine.identity,
            mine.key,
            evict=evict,
            deserializer=deserializer,
            made=mine.made,
            store=mine._store,
            timeout=mine.timeout if timeout is None else timeout,
        )
        return Proxy(factory, self._about)

    def evict(self) -> None:
        """Delete what the future was set to; no error if there is nothing.

        Who has not got it by then waits until his timeout. Evict when the last consumer has it.
        """
        self.store.evict(self.key)

    def __reduce__(self) -> tuple[Any, ...]:
        return future_from_wire, (self._factory.to_wire(self._about),)

    def __dask_tokenize__(self) -> tuple[str, Any]:
        return "isthmus.store.Future", self._factory.__dask_tokenize__()

    def __repr__(self) -> str:
        state = ", set" if self._is_set else ""
        return f"<Future {short(self.key)} in store {self._factory.config.name!r}{state}>"

    def _outcome(self, timeout: float | None) -> T | Failure:
        factory = self._factory
        if not self._is_set:
            factory.wait(seconds(factory.timeout if timeout is None else timeout))
            self._is_set = True
        return factory.outcome()

    def _set(self, obj: Any, serializer: codec.Serializer | None, options: dict[str, Any]) -> None:
        store = self.store
        if self._factory.lease is not None:
            options.setdefault("lease", self._factory.lease)
        if self._is_set or not store._put_at(self.key, obj, serializer, options):
            self._is_set = True
            raise AlreadySetError(
                f"future {short(self.key)} in store {store.name!r}", self._stands()
            )
        self._is_set = True

    def _stands(self) -> str:
        """Return in words what this future was set to; reads it only if it is small."""
        store = self.store
        connector: Any = store.connector
        info = (
            connector.stat(store._own(self.key))
            if isinstance(connector, ListableConnector)
            else None
        )
        whose = f" by {info.owner}" if info is not None and info.owner else ""
        if info is not None and info.size > _LOOKED_AT_BYTES:
            return f"an object of {info.size} bytes{whose}"
        try:
            outcome = self._factory.outcome()
        except MissingObjectError:
            return "an object that was evicted"
        if isinstance(outcome, Failure):
            return f"an exception, {outcome.error!r}{whose}"
        return f"a {type(outcome).__qualname__}{whose}"


def future_from_wire(data: bytes) -> Future[Any]:
    """Rebuild a future from what it pickled to; no I/O.

    Raises:
        CodecError: the bytes are of another version, or no future of ours.
    """
    factory, about = read_wire(data)
    if not isinstance(factory, AwaitingFactory):
        from isthmus.errors import CodecError

        raise CodecError("not a future of a store")
    return Future(factory, about)


# The shorter the module's name, the smaller every pickled future.
future_from_wire.__module__ = "isthmus.store"
