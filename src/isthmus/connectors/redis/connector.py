"""Objects in a Redis server, whole or not at all, whatever their size."""

from __future__ import annotations

import contextlib
import mmap
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from isthmus.connectors.forking import renew_after_fork
from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.naming import fresh_name, host_id, is_name, owner
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.protocol import ObjectInfo
from isthmus.connectors.redis.access import (
    Client,
    RedisSpec,
    address,
    check,
    connect,
    refusal,
    silence,
)
from isthmus.connectors.redis.layout import COMMIT, EVICT, HEAD_BYTES, Head, Layout
from isthmus.connectors.redis.link import Link, Refused, command
from isthmus.errors import BrokenError, IsthmusError, KeyTypeError
from isthmus.spec import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from isthmus.connectors.protocol import Buffer, Payload

__all__ = ["RedisConnector", "RedisKey"]

T = TypeVar("T")

_CHUNKS_AHEAD = (
    4  # what the server holds in its buffers for one reader or writer, times chunk_bytes
)
_SMALL_AHEAD = 64
_MAPPED_BYTES = (
    1 << 20
)  # from here on, fresh pages from the kernel are cheaper than clearing old ones
_RECHECK_SECONDS = 1.0  # a waiter's doorbell is lost when the server restarts


class RedisKey(NamedTuple):
    """An object in a Redis database."""

    name: str
    """``host-pid-random``, in hex."""


class RedisConnector(ConnectorHandle[RedisKey]):
    """Objects in a Redis, Valkey or KeyDB server, which every host that reaches it shares.

    Objects have no upper size: what exceeds `chunk_bytes` is stored in chunks. Connects when first
    used, a connection for each thread at work, and again when the server was gone.

    Args:
        hostname: name or address that every process knows the server by; ``localhost`` means another
            server on every host.
        port: its port.
        db: number of the database.
        prefix: what the names of all keys begin with: `list` and `clear` touch no others.
        username: user of the server's access control list.
        password_env: environment variable that has the password, in every process that connects; the
            password itself is never part of a configuration or a proxy.
        unix_socket: path of the server's socket, in place of host and port.
        tls: encrypt, and verify the server's certificate and name.
        ca_file: certificates to trust in place of the system's.
        cert_file: this client's certificate, where the server asks for one.
        key_file: its private key.
        cluster: the server is a node of a cluster; each object lies on one node.
        sentinel: name of the service to ask for; hostname and port are then a sentinel's.
        sentinel_password_env: environment variable that has the sentinels' password.
        nodes: more nodes of the cluster, or more sentinels: ``host:port,host:port``.
        chunk_bytes: bytes of an object that go under one key, at most 256 MiB.
        unfinished_seconds: how long the server keeps the chunks of an object whose writer never finished
            it; storing one object must not take longer.
        timeout: seconds that the server may keep silent.

    Raises:
        MissingExtraError: redis-py is not installed.
        SpecError: arguments that do not go together.
    """

    kind = "redis"
    spec_type = RedisSpec
    key_type = RedisKey

    def __init__(
        self,
        hostname: str = "localhost",
        port: int = 6379,
        db: int = 0,
        prefix: str = "isthmus",
        *,
        username: str | None = None,
        password_env: str | None = None,
        unix_socket: str | None = None,
        tls: bool = False,
        ca_file: str | None = None,
        cert_file: str | None = None,
        key_file: str | None = None,
        cluster: bool = False,
        sentinel: str | None = None,
        sentinel_password_env: str | None = None,
        nodes: str = "",
        chunk_bytes: int = 1 << 22,
        unfinished_seconds: int = 3600,
        timeout: float = 30.0,
    ) -> None:
        spec = RedisSpec(
            hostname,
            port,
            db,
            prefix,
            username,
            password_env,
            unix_socket,
            tls,
            ca_file,
            cert_file,
            key_file,
            cluster,
            sentinel,
            sentinel_password_env,
            nodes,
            chunk_bytes,
            unfinished_seconds,
            timeout,
        )
        check(spec)
        self._failures = require("redis", extra="redis", what="the redis connector").RedisError
        super().__init__(spec)
        self._access = spec
        self._where = address(spec)
        self._layout = Layout(prefix)
        self._chunk = chunk_bytes
        self._host = host_id()
        self._forked()
        renew_after_fork(self)

    def put(self, obj: Payload) -> RedisKey:
        """Store an object: one request if it fits in a chunk."""
        key = self.reserve()
        self._store(key.name, pieces(obj), reserved=False)
        return key

    def put_batch(self, objs: Sequence[Payload]) -> list[RedisKey]:
        """Store several objects; the small ones in few round trips."""
        self._check()
        flats = [pieces(obj) for obj in objs]
        keys = [self.reserve() for _ in objs]
        small = [n for n, flat in enumerate(flats) if total(flat) <= self._chunk]
        for group in self._by_node(keys, small):

            def store(link: Link, group: list[int] = group) -> None:
                requests = (self._set(keys[n].name, flats[n]) for n in group)
                _raise_first(link.run(requests, window=_SMALL_AHEAD))

            self._at(keys[group[0]].name, store, need=sum(total(flats[n]) for n in group))
        for n in set(range(len(keys))).difference(small):
            self._store(keys[n].name, flats[n], reserved=False)
        return keys

    def get(self, key: RedisKey) -> Buffer | None:
        """Return the object, in memory of its own."""
        return self.get_batch([key])[0]

    def get_batch(self, keys: Sequence[RedisKey]) -> list[Buffer | None]:
        """Return the objects under several keys, in few round trips.

        Raises:
            BrokenError: the server did not answer, or has lost a part of an object.
        """
        self._check()
        manifests = [self._manifest(key) for key in keys]
        found: list[Buffer | None] = [None] * len(keys)
        for group in self._by_node(keys, range(len(keys))):

            def fetch(link: Link, group: list[int] = group) -> None:
                requests = (command(b"GET", manifests[n]) for n in group)
                window = _SMALL_AHEAD if len(group) > _CHUNKS_AHEAD else _CHUNKS_AHEAD
                got = list(link.run(requests, window=window, read=lambda: _first(link)))
                _raise_first(got)
                for n, first in zip(group, got, strict=True):
                    found[n] = first and self._rest(link, keys[n].name, *first)

            self._at(keys[group[0]].name, fetch)
        return found

    def get_range(self, key: RedisKey, offset: int, size: int) -> Buffer | None:
        """Read a part of the object, from the chunks that have it."""
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        manifest = self._manifest(key)

        def fetch(link: Link) -> Buffer | None:
            head = self._head(link, manifest)
            if head is None:
                return None
            start, stop = min(offset, head.size), min(offset + size, head.size)
            if start == stop:
                return b""
            target = _room(stop - start)
            requests, wanted = [], []
            for number in range(start // head.chunk, (stop - 1) // head.chunk + 1):
                first = max(start, number * head.chunk)
                last = min(stop, (number + 1) * head.chunk) - 1
                wanted.append(target[first - start : last + 1 - start])
                shift = number * head.chunk if number else -HEAD_BYTES
                source = self._layout.chunk(key.name, head.token, number) if number else manifest
                requests.append(command(b"GETRANGE", source, first - shift, last - shift))
            if self._fill(link, requests, wanted):
                return target
            return self._again(link, key.name, head, lambda: fetch(link))

        return self._at(key.name, fetch)

    def exists(self, key: RedisKey) -> bool:
        """Return whether a complete object lies under `key`."""
        request = command(b"EXISTS", self._manifest(key))
        return bool(self._ask(key.name, request))

    def evict(self, key: RedisKey) -> None:
        """Delete an object, all of it at once; no error if there is none."""
        request = self._eviction(self._manifest(key))
        self._evicted(self._ask(key.name, request))

    def reserve(self) -> RedisKey:
        """Return a fresh key under which nothing lies yet."""
        self._check()
        return RedisKey(fresh_name(self._host))

    def put_at(self, key: RedisKey, obj: Payload) -> bool:
        """Store an object under a reserved key if none lies there, and wake those who wait for it."""
        self._manifest(key)
        return self._store(key.name, pieces(obj), reserved=True)

    def wait(self, key: RedisKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`: subscribes, looks, and is woken by `put_at`.

        A waiter has a connection of its own.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.exists(key):
            return True
        if timeout is not None and timeout <= 0:
            return False
        with self._ours(), contextlib.closing(self._client().redis.pubsub()) as bell:
            bell.subscribe(self._manifest(key))
            while True:
                # The first message says that we are subscribed. What was stored before is there by now.
                left = _RECHECK_SECONDS if deadline is None else deadline - time.monotonic()
                bell.get_message(timeout=max(0.0, min(left, _RECHECK_SECONDS)))
                if self.exists(key):
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object below the prefix; the server looks through all keys of its database."""
        self._check()
        seen: set[str] = set()
        for names in self._names():
            fresh = [RedisKey(name) for name in names if name not in seen]
            seen.update(names)
            yield from (info for info in self._stat(fresh) if info is not None)

    def stat(self, key: RedisKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        self._manifest(key)
        return self._stat([key])[0]

    def clear(self) -> int:
        """Delete every object below the prefix, and no other key; return how many."""
        self._check()
        gone = 0
        for names in self._names():
            keys = [RedisKey(name) for name in names]
            requests = [self._eviction(self._manifest(key)) for key in keys]
            gone += sum(self._evicted(done) for done in self._ask_each(keys, requests))
        return gone

    def sweep(self) -> int:
        """Delete chunks that lost their manifest (somebody deleted it by hand); return the bytes freed.

        What killed writers left is not among them: the server deletes it, `unfinished_seconds` after
        it was written.
        """
        self._check()
        freed = 0
        for parts in self._scan(self._layout.parts):
            owners = {part: found for part in parts if (found := self._layout.owner(part))}
            keys = [RedisKey(name) for name, _ in owners.values()]
            # A chunk is permanent once it has its manifest: permanent and without one, it lost it.
            kept = self._ask_each(keys, [command(b"PTTL", part) for part in owners])
            heads = self._ask_each(keys, [self._look(self._manifest(key)) for key in keys])
            for (part, (name, token)), ttl, head in zip(owners.items(), kept, heads, strict=True):
                if ttl == -1 and not ((found := Head.read(head)) and found.token == token):
                    size = self._ask(name, command(b"STRLEN", part))
                    freed += size * self._ask(name, command(b"UNLINK", part))
        return freed

    # Storing

    def _set(self, name: str, flat: list[bytes | memoryview], *options: bytes) -> Any:
        head = Head.fresh(total(flat), self._chunk).write()
        return command(b"SET", self._layout.manifest(name), [head, *flat], *options)

    def _store(self, name: str, flat: list[bytes | memoryview], *, reserved: bool) -> bool:
        size = total(flat)
        manifest = self._layout.manifest(name)
        if size > self._chunk:
            if reserved and self.exists(RedisKey(name)):
                return False
            return self._at(
                name, lambda link: self._store_chunks(link, name, flat, reserved), need=size
            )
        requests = [self._set(name, flat, *[b"NX"] * reserved)]
        if reserved:
            requests.append(command(b"PUBLISH", manifest, b""))

        def store(link: Link) -> bool:
            return _raise_first(link.run(requests, window=2))[0] is not None

        return self._at(name, store, need=size)

    def _store_chunks(
        self, link: Link, name: str, flat: list[bytes | memoryview], reserved: bool
    ) -> bool:
        head = Head.fresh(total(flat), self._chunk)
        manifest = self._layout.manifest(name)
        parts = [self._layout.chunk(name, head.token, number) for number in range(head.chunks + 1)]
        contents = _cut(flat, self._chunk)
        contents[0].insert(0, head.write())
        life = self._access.unfinished_seconds
        requests = (
            command(b"SET", part, content, b"EX", life)
            for part, content in zip(parts, contents, strict=True)
        )
        refused: Refused | None = None

        def unless_refused() -> Iterator[Any]:
            for request in requests:
                if refused is not None:  # a full server need not be sent the rest
                    return
                yield request

        for reply in link.run(unless_refused(), window=_CHUNKS_AHEAD):
            if type(reply) is Refused:
                refused = refused or reply
        if refused is not None:
            list(link.run((command(b"UNLINK", part) for part in parts), window=_SMALL_AHEAD))
            raise refused
        bell = manifest if reserved else b""
        commit = command(b"EVAL", COMMIT, 1, manifest, head.token.encode(), head.chunks, bell)
        (won,) = _raise_first(link.run([commit], window=1))
        if won == -1:
            raise BrokenError(
                self._where,
                f"it deleted chunks of an object of {head.size} bytes before the last one was written, since "
                f"that took longer than unfinished_seconds={life}, or by its maxmemory-policy; nothing "
                "was stored",
            )
        return bool(won)

    # Fetching

    def _rest(self, link: Link, name: str, head: Head, target: memoryview) -> Buffer | None:
        if not head.chunks:
            return target
        numbers = range(1, head.chunks + 1)
        requests = [command(b"GET", self._layout.chunk(name, head.token, n)) for n in numbers]
        wanted = [target[n * head.chunk : (n + 1) * head.chunk] for n in numbers]
        if self._fill(link, requests, wanted):
            return target

        def from_the_start() -> Buffer | None:
            link.send([command(b"GET", self._layout.manifest(name))])
            first = _first(link)
            _raise_first([first])
            return first and self._rest(link, name, *first)

        return self._again(link, name, head, from_the_start)

    def _fill(self, link: Link, requests: Sequence[Any], wanted: Sequence[memoryview]) -> bool:
        """Read chunks into their places; False if one is not there, or not as long as it should be."""
        places = iter(wanted)

        def read() -> Any:
            place, size = next(places), link.size()
            if type(size) is not int:
                return size if size is not None else False
            if size != len(place):
                link.body(bytearray(size))
                return False
            link.body(place)
            return True

        return all(_raise_first(link.run(requests, window=_CHUNKS_AHEAD, read=read)))

    def _again(self, link: Link, name: str, head: Head, retry: Callable[[], T]) -> T | None:
        """Find out why a chunk was missing: the object was evicted, and perhaps stored anew, or is broken."""
        now = self._head(link, self._layout.manifest(name))
        if now is None:
            return None
        if now.token != head.token:
            return retry()
        raise BrokenError(
            self._where,
            f"object {name} of {head.size} bytes lacks some of its {head.chunks + 1} chunks; the server lost "
            "or evicted them (see its maxmemory-policy): evict the object and store it again",
        )

    def _look(self, manifest: bytes) -> Any:
        return command(b"GETRANGE", manifest, 0, HEAD_BYTES - 1)

    def _head(self, link: Link, manifest: bytes) -> Head | None:
        (data,) = _raise_first(link.run([self._look(manifest)], window=1))
        return _known(data) if data else None

    def _stat(self, keys: Sequence[RedisKey]) -> list[ObjectInfo | None]:
        looks = self._ask_each(keys, [self._look(self._manifest(key)) for key in keys])
        heads = [Head.read(data) for data in looks]
        return [
            head and ObjectInfo(key, head.size, head.created, owner(key.name, self._host))
            for key, head in zip(keys, heads, strict=True)
        ]

    # Talking

    def _eviction(self, manifest: bytes) -> Any:
        return command(b"EVAL", EVICT, 1, manifest)

    def _evicted(self, done: int) -> bool:
        if done < 0:
            raise refusal(self._where, _FOREIGN, 0)
        return bool(done)

    def _ask(self, name: str, request: Any) -> Any:
        return self._at(name, lambda link: _raise_first(link.run([request], window=1))[0])

    def _ask_each(self, keys: Sequence[RedisKey], requests: Sequence[Any]) -> list[Any]:
        """Send the request that belongs to each key; return the replies in order."""
        replies: list[Any] = [None] * len(keys)
        for group in self._by_node(keys, range(len(keys))):

            def ask(link: Link, group: list[int] = group) -> list[Any]:
                return _raise_first(link.run((requests[n] for n in group), window=_SMALL_AHEAD))

            for n, reply in zip(group, self._at(keys[group[0]].name, ask), strict=True):
                replies[n] = reply
        return replies

    def _by_node(self, keys: Sequence[RedisKey], which: Iterable[int]) -> list[list[int]]:
        """Group numbers of keys by the server that has them."""
        if not self._access.cluster:
            return [list(which)] if which else []
        groups: dict[Any, list[int]] = {}
        with self._ours():
            for n in which:
                groups.setdefault(self._pool(keys[n].name), []).append(n)
        return list(groups.values())

    def _at(self, name: str, work: Callable[[Link], T], *, need: int = 0) -> T:
        """Have something done over a connection to the server that has an object."""
        attempts = 3 if self._access.cluster else 1
        while True:
            attempts -= 1
            try:
                with self._link(name) as link:
                    return work(link)
            except Refused as refused:
                if not attempts or not str(refused).startswith("MOVED"):
                    raise refusal(self._where, str(refused), need) from None
                self._stale = True

    @contextlib.contextmanager
    def _link(self, name: str) -> Iterator[Link]:
        with self._ours():
            pool = self._pool(name)
            connection = pool.get_connection()
            try:
                yield Link(connection)
            except (Refused, BrokenError):
                raise  # all replies were read
            except BaseException:
                connection.disconnect()
                self._stale = True
                raise
            finally:
                pool.release(connection)

    def _pool(self, name: str) -> Any:
        redis = self._client().redis
        if not self._access.cluster:
            return redis.connection_pool
        if self._stale:
            redis.nodes_manager.initialize()  # asks the nodes who has which slot now
            self._stale = False
        node = redis.get_node_from_key(self._layout.manifest(name))
        return redis.get_redis_connection(node).connection_pool

    def _client(self) -> Client:
        with self._opening:
            self._check()
            if self._opened is None:
                self._opened = connect(self._access)
            return self._opened

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        """Turn the client library's errors, and the system's, into ours."""
        try:
            yield
        except (IsthmusError, Refused):
            raise
        except (self._failures, OSError) as error:
            raise silence(self._where, error) from error

    def _scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        with self._ours():
            batch: list[bytes] = []
            for key in self._client().redis.scan_iter(match=pattern, count=1000):
                batch.append(key)
                if len(batch) == 1000:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def _names(self) -> Iterator[list[str]]:
        for keys in self._scan(self._layout.manifests):
            yield [name for key in keys if (name := self._layout.name(key))]

    def _manifest(self, key: RedisKey) -> bytes:
        self._check(key)
        if not is_name(key.name):
            raise KeyTypeError(type(self).__name__, "RedisKey from put() or reserve()", key)
        return self._layout.manifest(key.name)

    def _forked(self) -> None:
        # The parent's connections are closed here when they are collected, without a word to the server.
        self._opened: Client | None = None
        self._opening = threading.Lock()
        self._stale = False

    def _release(self) -> None:
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()


_FOREIGN = "WRONGTYPE what lies under the key is no object of isthmus"


def _known(data: Any) -> Head:
    if (head := Head.read(data)) is None:
        raise Refused(_FOREIGN)
    return head


def _first(link: Link) -> tuple[Head, memoryview] | Refused | None:
    """Read a manifest: the head, and the whole object's memory with its first chunk in place."""
    size = link.size()
    if type(size) is not int:
        return size
    start = bytearray(min(size, HEAD_BYTES))
    link.fill(memoryview(start))
    head = Head.read(start)
    if head is None or size != HEAD_BYTES + min(head.size, head.chunk):
        link.body(bytearray(size - len(start)))
        return Refused(_FOREIGN)
    target = _room(head.size)
    link.body(target[: size - HEAD_BYTES])
    return head, target


def _raise_first(replies: Iterable[T]) -> list[T]:
    """Return all replies, or raise the first refusal among them when all were read."""
    got = list(replies)
    for reply in got:
        if type(reply) is Refused:
            raise reply
    return got


def _room(size: int) -> memoryview:
    """Return fresh memory for an object."""
    if size < _MAPPED_BYTES:
        return memoryview(bytearray(size))
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


def _cut(flat: list[bytes | memoryview], chunk: int) -> list[list[bytes | memoryview]]:
    """Cut pieces into chunks of `chunk` bytes, copying nothing."""
    chunks: list[list[bytes | memoryview]] = [[]]
    room = chunk
    for piece in flat:
        view = memoryview(piece)
        while len(view):
            if not room:
                chunks.append([])
                room = chunk
            chunks[-1].append(view[:room])
            view, room = view[room:], room - len(chunks[-1][-1])
    return chunks
