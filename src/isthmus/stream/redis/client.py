"""A connection to the server, and its failures as our errors."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from isthmus.access import redis as access
from isthmus.errors import BrokenError, ClosedError
from isthmus.spec import require

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from isthmus.access.redis import RedisAddress

__all__ = ["Client"]

T = TypeVar("T")

# Seconds before each attempt to connect anew.
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, None)


class Client:
    """The client library's client for a spec, made when first used.

    Args:
        spec: says where the server is.
        what: whose it is, for errors.
    """

    def __init__(self, spec: RedisAddress, what: str) -> None:
        access.check(spec, what)
        self.where = access.address(spec)
        self._spec = spec
        self._what = what
        self._library = require("redis", extra="redis", what="streams over Redis")
        self._sentinel: Any = None
        self.redis = self._make()

    def _make(self) -> Any:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        spec = self._spec
        options = access.options(spec, self._what)
        options |= {"db": spec.db, "retry": Retry(NoBackoff(), 0)}
        if spec.sentinel:
            asking = {k: v for k, v in options.items() if k.startswith(("socket", "ssl"))}
            asking["password"] = access.secret(spec.sentinel_password_env, self._what)
            self._sentinel = self._library.sentinel.Sentinel(
                list(access.nodes(spec, self._what)), sentinel_kwargs=asking, **options
            )
            return self._sentinel.master_for(spec.sentinel)
        if spec.unix_socket:
            return self._library.Redis(unix_socket_path=spec.unix_socket, **options)
        return self._library.Redis(host=spec.hostname, port=spec.port, **options)

    @contextlib.contextmanager
    def told(self, need: int = 0) -> Iterator[None]:
        """Raise our error for the library's.

        Args:
            need: bytes that were to be kept.
        """
        try:
            yield
        except self._library.ResponseError as error:
            raise access.refusal(self.where, str(error), need) from error
        except (self._library.RedisError, OSError) as error:
            raise access.silence(self.where, error) from error

    def steadily(self, call: Callable[[], T], closed: threading.Event) -> T:
        """Return what `call` does, called again for some seconds while the connection breaks.

        Raises:
            BrokenError: it stays so.
            ClosedError: `closed` was set meanwhile.
        """
        for pause in _PAUSES:
            try:
                with self.told():
                    return call()
            except BrokenError:
                if pause is None:
                    raise
                if closed.wait(pause):
                    break
        raise ClosedError(self._what)

    def close(self) -> None:
        """Close its connections."""
        self.redis.close()
        if self._sentinel is not None:
            for one in self._sentinel.sentinels:
                one.close()
