"""Objects in a Redis server, whole or not at all, whatever their size."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from isthmus.connectors.handle import ConnectorHandle
from isthmus.connectors.leases import terms
from isthmus.connectors.naming import fresh_name, host_id, is_name, owner
from isthmus.connectors.payload import pieces, total
from isthmus.connectors.protocol import Buffer, ObjectInfo
from isthmus.connectors.redis.access import RedisSpec, refusal
from isthmus.connectors.redis.channel import Channel
from isthmus.connectors.redis.layout import EVICT, LEASE, Head, Layout, milliseconds
from isthmus.connectors.redis.link import command, raise_first
from isthmus.connectors.redis.transfer import FOREIGN, Transfer
from isthmus.errors import KeyTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from isthmus.connectors.protocol import Payload
    from isthmus.connectors.redis.link import Command, Link

__all__ = ["RedisConnector", "RedisKey"]

_SMALL_AHEAD = 64
_KEYS_PER_SCRIPT = 128  # while a script runs, the server serves nobody else
_RECHECK_SECONDS = 1.0  # a waiter's doorbell is lost where a server fails over


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
        chunk_bytes: int = 1 << 21,
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
            sentinel,
            sentinel_password_env,
            nodes,
            timeout,
            cluster,
            chunk_bytes,
            unfinished_seconds,
        )
        self._channel = Channel(spec)
        self._cluster = cluster
        super().__init__(spec)
        self._layout = Layout(prefix)
        self._transfer = Transfer(
            self._layout, self._channel.where, chunk_bytes, unfinished_seconds
        )
        self._chunk = chunk_bytes
        self._host = host_id()

    def put(self, obj: Payload, *, lease: float | None = None, held: bool = False) -> RedisKey:
        """Store an object: one request if it fits in a chunk.

        Args:
            obj: the object's bytes.
            lease: seconds, at most two years, timed by the server.
            held: has no effect: the server does not know whether a process lives.
        """
        life = milliseconds(terms(lease, held))
        key = self.reserve()
        flat = pieces(obj)
        manifest, size = self._manifest(key), total(flat)

        def store(link: Link) -> None:
            if size > self._chunk:
                self._transfer.store(link, key.name, flat, life, b"")
            else:
                raise_first(link.run([self._transfer.whole(key.name, flat, life)], window=1))

        self._channel.at(manifest, store, need=size)
        return key

    def put_batch(
        self, objs: Sequence[Payload], *, lease: float | None = None, held: bool = False
    ) -> _Keys:
        """Store several objects, the small ones in few round trips."""
        self._check()
        life = milliseconds(terms(lease, held))
        flats = [pieces(obj) for obj in objs]
        keys = [self.reserve() for _ in objs]
        small = [n for n, flat in enumerate(flats) if total(flat) <= self._chunk]
        manifests = [self._manifest(key) for key in keys]
        for group in self._channel.groups(manifests, small):

            def store(link: Link, group: Sequence[int] = group) -> None:
                requests = (self._transfer.whole(keys[n].name, flats[n], life) for n in group)
                raise_first(link.run(requests, window=_SMALL_AHEAD))

            need = sum(total(flats[n]) for n in group)
            self._channel.at(manifests[group[0]], store, need=need)
        for n in sorted(set(range(len(keys))).difference(small)):
            keys[n] = self.put(objs[n], lease=lease, held=held)
        return keys

    def get(self, key: RedisKey) -> Buffer | None:
        """Return the object, in memory of its own."""
        manifest = self._manifest(key)
        return self._channel.at(manifest, lambda link: self._transfer.fetch(link, [key.name])[0])

    def get_batch(self, keys: Sequence[RedisKey]) -> _Buffers:
        """Return the objects under several keys, in few round trips."""
        self._check()
        manifests = [self._manifest(key) for key in keys]
        found: _Buffers = [None] * len(keys)
        for group in self._channel.groups(manifests, range(len(keys))):
            names = [keys[n].name for n in group]

            def fetch(link: Link, names: Sequence[str] = names) -> Sequence[Buffer | None]:
                return self._transfer.fetch(link, names)

            for n, data in zip(group, self._channel.at(manifests[group[0]], fetch), strict=True):
                found[n] = data
        return found

    def get_range(self, key: RedisKey, offset: int, size: int) -> Buffer | None:
        """Read a part of the object, from the chunks that have it."""
        if offset < 0 or size < 0:
            raise ValueError(f"offset and size must not be negative, got {offset} and {size}")
        manifest = self._manifest(key)
        return self._channel.at(
            manifest, lambda link: self._transfer.fetch_range(link, key.name, offset, size)
        )

    def exists(self, key: RedisKey) -> bool:
        """Return whether a complete object lies under `key`."""
        manifest = self._manifest(key)
        return bool(self._channel.ask(manifest, command(b"EXISTS", manifest)))

    def evict(self, key: RedisKey) -> None:
        """Delete an object, all of it at once; no error if there is none."""
        manifest = self._manifest(key)
        self._was_there(self._channel.ask(manifest, _eviction(manifest)))

    def reserve(self) -> RedisKey:
        """Return a fresh key under which nothing lies yet."""
        self._check()
        return RedisKey(fresh_name(self._host))

    def put_at(
        self, key: RedisKey, obj: Payload, *, lease: float | None = None, held: bool = False
    ) -> bool:
        """Store an object under a reserved key if none lies there, and wake those who wait for it."""
        life = milliseconds(terms(lease, held))
        manifest, flat = self._manifest(key), pieces(obj)
        size = total(flat)

        def store(link: Link) -> bool:
            if size > self._chunk:
                return self._transfer.store(link, key.name, flat, life, manifest)
            set_once = self._transfer.whole(key.name, flat, life, b"NX")
            ring = command(b"PUBLISH", manifest, b"")
            return raise_first(link.run([set_once, ring], window=2))[0] is not None

        if size > self._chunk and self.exists(key):
            return False  # nothing need be sent to find that out
        return self._channel.at(manifest, store, need=size)

    def lease(self, key: RedisKey, seconds: float | None, *, held: bool = False) -> bool:
        """Let the object go `seconds` from now, by the server's clock, unless its lease is renewed.

        Args:
            key: of the object.
            seconds: at most two years; None to keep it until it is evicted.
            held: has no effect: the server does not know whether a process lives.
        """
        life = milliseconds(terms(seconds, held))
        return self._lease([key], b"%x" % life if life else b"")[0]

    def renew(self, keys: Sequence[RedisKey]) -> _Answers:
        """Begin the period of each object's lease anew, in few round trips."""
        self._check()
        return self._lease(keys, b"renew")

    def _lease(self, keys: Sequence[RedisKey], how: bytes) -> _Answers:
        manifests = [self._manifest(key) for key in keys]
        # Keys of one script must lie on one node of a cluster, and in one slot.
        share = 1 if self._cluster else _KEYS_PER_SCRIPT
        shares = [manifests[n : n + share] for n in range(0, len(manifests), share)]
        asked = [command(b"EVAL", LEASE, len(some), *some, how) for some in shares]
        replies = self._channel.ask_each([some[0] for some in shares], asked)
        return [self._was_there(done) for reply in replies for done in reply]

    def wait(self, key: RedisKey, timeout: float | None = None) -> bool:
        """Block until an object lies under `key`: subscribes, looks, and is woken by `put_at`.

        A waiter has a connection of its own.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if self.exists(key):
            return True
        if timeout is not None and timeout <= 0:
            return False
        with self._channel.doorbell(self._manifest(key)) as heard:
            while True:
                left = _RECHECK_SECONDS if deadline is None else deadline - time.monotonic()
                # First comes the word that we are subscribed. What was stored before that is there by now.
                heard(max(0.0, min(left, _RECHECK_SECONDS)))
                if self.exists(key):
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False

    @contextlib.contextmanager
    def bell(self) -> Iterator[Callable[[float], _Keys]]:
        """Listen for whatever `put_at` stores below the prefix; takes one connection."""
        self._check()
        with self._channel.doorbells(self._layout.manifests) as heard:

            def listen(seconds: float) -> _Keys:
                self._check()
                names = map(self._layout.name, heard(seconds))
                return [RedisKey(name) for name in names if name]

            yield listen

    def list(self) -> Iterator[ObjectInfo]:
        """Yield every object below the prefix; the server looks through all keys of its database."""
        self._check()
        seen: set[RedisKey] = set()
        for keys in self._keys():
            fresh = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(fresh)
            yield from filter(None, self._stat(fresh))

    def stat(self, key: RedisKey) -> ObjectInfo | None:
        """Return what is known of one object."""
        return next(self._stat([key]))

    def clear(self) -> int:
        """Delete every object below the prefix, and no other key; return how many."""
        self._check()
        gone = 0
        for keys in self._keys():
            manifests = [self._manifest(key) for key in keys]
            replies = self._channel.ask_each(manifests, [_eviction(m) for m in manifests])
            gone += sum(map(self._was_there, replies))
        return gone

    def sweep(self) -> int:
        """Delete chunks that lost their manifest (somebody deleted it by hand); return the bytes freed.

        What killed writers left is not among them: the server deletes it, `unfinished_seconds` after
        it was written. Nor are objects whose lease has run out: the server deletes those at once.
        """
        self._check()
        freed = 0
        for parts in self._channel.scan(self._layout.parts):
            owners = {part: found for part in parts if (found := self._layout.owner(part))}
            names = [name for name, _ in owners.values()]
            # A chunk is permanent from when it has its manifest on: permanent and without, it lost it.
            lives = self._channel.ask_each([*owners], [command(b"PTTL", part) for part in owners])
            manifests = [self._layout.manifest(name) for name in names]
            looks = self._channel.ask_each(manifests, [self._transfer.look(n) for n in names])
            for (part, (_, token)), life, look in zip(owners.items(), lives, looks, strict=True):
                head = Head.read(look)
                if life == -1 and (head is None or head.token != token):
                    size = self._channel.ask(part, command(b"STRLEN", part))
                    freed += size * self._channel.ask(part, command(b"UNLINK", part))
        return freed

    def _keys(self) -> Iterator[_Keys]:
        for found in self._channel.scan(self._layout.manifests):
            yield [RedisKey(name) for key in found if (name := self._layout.name(key))]

    def _stat(self, keys: Sequence[RedisKey]) -> Iterator[ObjectInfo | None]:
        manifests = [self._manifest(key) for key in keys]
        looks = self._channel.ask_each(manifests, [self._transfer.look(k.name) for k in keys])
        heads = [Head.read(look) for look in looks]
        leased = [m for m, head in zip(manifests, heads, strict=True) if head and head.lease]
        lives = self._channel.ask_each(leased, [command(b"PTTL", m) for m in leased])
        until = {m: time.time() + ms / 1000 for m, ms in zip(leased, lives, strict=True) if ms >= 0}
        for key, manifest, head in zip(keys, manifests, heads, strict=True):
            whose = owner(key.name, self._host)
            yield head and ObjectInfo(key, head.size, head.created, whose, until.get(manifest))

    def _was_there(self, evicted: int) -> bool:
        if evicted < 0:
            raise refusal(self._channel.where, FOREIGN, 0)
        return bool(evicted)

    def _manifest(self, key: RedisKey) -> bytes:
        self._check(key)
        if not is_name(key.name):
            raise KeyTypeError(type(self).__name__, "RedisKey from put() or reserve()", key)
        return self._layout.manifest(key.name)

    def _release(self) -> None:
        self._channel.close()


# Named out here: inside the class, `list` is its method.
_Keys: TypeAlias = "list[RedisKey]"
_Answers: TypeAlias = "list[bool]"
_Buffers: TypeAlias = "list[Buffer | None]"


def _eviction(manifest: bytes) -> Command:
    return command(b"EVAL", EVICT, 1, manifest)
