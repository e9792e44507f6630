"""A connection: frames both ways, one writer, bounded on both sides, and told apart how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from typing import TYPE_CHECKING

from isthmus.errors import (
    BrokenError,
    ClosedError,
    IsthmusError,
    LocalProtocolError,
    RemoteProtocolError,
)
from isthmus.forking import renew_after_fork
from isthmus.net.memory import allocate, scratch
from isthmus.net.tls import NO_GOODBYE, translate
from isthmus.wire.frames import JOINED, Frame, FrameDecoder, encode, join_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from isthmus.net.limits import Limits
    from isthmus.net.link import Link
    from isthmus.wire.frames import Buffer
    from isthmus.wire.handshake import Agreed

__all__ = ["Connection"]

FIRST_OWN_KIND = 240
_BYE, _BEAT = 254, 255

READS = 8
"""System calls for one readiness, and likewise for writing: then others get their turn."""


class Connection:
    """A connection to a peer, made by `connect` or handed out by `listen`; belongs to one event loop.

    Frames come whole and in order, or not at all. What was received before an end is still handed out; then
    `receive` raises `ClosedError` if either side closed, `BrokenError` if the peer died, or broke the
    protocol, or the network failed; ``async for`` ends in the first case.

    Attributes:
        address: of the peer.
        agreed: the peer as it introduced itself, the version, and the features of both.
    """

    def __init__(self, link: Link, address: str, agreed: Agreed, limits: Limits) -> None:
        self.address = address
        self.agreed = agreed
        self.limits = limits
        self._name = f"connection to {address}"
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._fd = link.sock.fileno()
        self._end: IsthmusError | None = None
        self._closing: asyncio.Future[None] | None = None
        # Receiving
        self._decoder = FrameDecoder(limits.max_frame_bytes, allocate)
        self._scratch = scratch()
        self._frames: deque[Frame] = deque()
        self._held = 0  # bytes received since `_frames` was empty
        self._reading = False
        self._receivers: deque[asyncio.Future[None]] = deque()
        # Sending
        self._new: list[Buffer] = []
        self._queue: deque[Buffer] = deque()
        self._unsent = 0  # bytes in both
        self._flushing = False  # a flush is scheduled, or waits for room in the socket
        self._writing = False
        self._drainers: list[tuple[int, asyncio.Future[None]]] = []
        # Beats
        self._sent_since = self._heard_since = True
        self._silent = 0.0
        self._dead = max(limits.dead_seconds, 2.5 * agreed.peer.beat) if agreed.peer.beat else 0.0
        pace = [s for s in (limits.beat_seconds / 2, self._dead / 4) if s > 0]
        self._pace: float = min(pace, default=0.0)
        self._unsaid = 0.0
        self._timer: asyncio.TimerHandle | None = None
        if self._pace:
            self._timer = self._loop.call_later(self._pace, self._tick)
        renew_after_fork(self)
        if agreed.rest:
            try:
                self._take(self._decoder.receive(agreed.rest), len(agreed.rest))
            except IsthmusError as error:
                self._stop(error)
        if not self.closed and not self._reading:
            self._resume()

    # Sending

    def send(self, payloads: Sequence[Buffer], kind: int = 0) -> None:
        """Queue a frame; all frames of one turn of the event loop leave together.

        Payloads of 4 KiB and more are not copied: leave them unchanged until `flush` has returned.

        Args:
            payloads: at most 255 contiguous buffers.
            kind: 0 to 239.

        Raises:
            ClosedError: either side closed the connection.
            BrokenError: it broke.
            LocalProtocolError: this is no frame; nothing was queued.
        """
        if self._end is not None or self._closing is not None:
            raise self._ending()
        if kind >= FIRST_OWN_KIND:
            raise LocalProtocolError(
                f"cannot send a frame of kind {kind}",
                f"kinds from {FIRST_OWN_KIND} on are the connection's",
            )
        self._send(encode(payloads, kind))

    def _send(self, pieces: list[Buffer]) -> None:
        self._new += pieces
        for piece in pieces:
            self._unsent += len(piece)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    async def drain(self) -> None:
        """Wait while more than ``limits.send_bytes`` are queued: call it after sending much.

        Raises:
            ClosedError, BrokenError: as for `send`.
        """
        if self._unsent > self.limits.send_bytes or self._end is not None:
            await self._sent_down_to(self.limits.send_bytes // 2)

    async def flush(self) -> None:
        """Wait until the operating system has everything; the memory that was sent may change then.

        Raises:
            ClosedError, BrokenError: as for `send`.
        """
        await self._sent_down_to(0)

    async def _sent_down_to(self, level: int) -> None:
        while self._backlog() > level or self._end is not None:
            if self._end is not None:
                raise self._ending()
            future: asyncio.Future[None] = self._loop.create_future()
            self._drainers.append((level, future))
            try:
                await future
            except asyncio.CancelledError:
                with contextlib.suppress(ValueError):
                    self._drainers.remove((level, future))
                raise

    def _flush(self) -> None:
        """Send what is queued until the socket takes no more."""
        if self._end is not None:
            return
        if self._new:
            self._queue.extend(join_small(self._new, 2 * JOINED))
            self._new = []
        queue, link = self._queue, self._link
        try:
            for _ in range(READS):
                if not queue and not link.waits_for_room():
                    break
                n = link.send(_first(queue))
                self._unsent -= n
                self._sent_since = True
                while n:
                    head = queue[0]
                    if len(head) > n:
                        queue[0] = memoryview(head)[n:]
                        break
                    n -= len(head)
                    queue.popleft()
        except BlockingIOError:
            pass
        except Exception as error:
            self._fail(error)
            return
        more = bool(queue) or link.waits_for_room()
        if more != self._writing:
            self._writing = more
            if more:
                self._loop.add_writer(self._fd, self._flush)
            else:
                self._loop.remove_writer(self._fd)
        self._flushing = more
        if self._drainers:
            self._wake_drainers()

    def _wake_drainers(self) -> None:
        waiting, self._drainers = self._drainers, []
        backlog = self._backlog() if self._end is None else 0
        for level, future in waiting:
            if backlog > level and self._end is None:
                self._drainers.append((level, future))
            elif not future.done():
                future.set_result(None)

    def _backlog(self) -> int:
        """Return the bytes that are not sent, and at least 1 while the link still has some of them."""
        return self._unsent or int(self._link.waits_for_room())

    # Receiving

    async def receive(self) -> Frame:
        """Wait for the next frame.

        Raises:
            ClosedError: either side closed the connection, and all that came before was received.
            BrokenError: the peer or the network did not go on.
        """
        while not self._frames:
            await self._arrival()
        frame = self._frames.popleft()
        if not self._frames:
            self._emptied()
        return frame

    async def receive_all(self) -> list[Frame]:
        """Wait for a frame; return it with all that came after it until now. Raises as `receive` does."""
        while not self._frames:
            await self._arrival()
        frames = [*self._frames]
        self._frames.clear()
        self._emptied()
        return frames

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        try:
            return await self.receive()
        except ClosedError:
            raise StopAsyncIteration from None

    async def _arrival(self) -> None:
        if self._end is not None:
            raise self._ending()
        future: asyncio.Future[None] = self._loop.create_future()
        self._receivers.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._wake_receiver()  # this one was woken for a frame that it does not take
            with contextlib.suppress(ValueError):
                self._receivers.remove(future)
            raise

    def _wake_receiver(self) -> None:
        while self._receivers:
            future = self._receivers.popleft()
            if not future.done():
                future.set_result(None)
                return

    def _emptied(self) -> None:
        self._held = 0
        if not self._reading and self._end is None:
            self._resume()

    def _resume(self) -> None:
        self._reading = True
        self._loop.add_reader(self._fd, self._readable)
        if self._link.pending():
            self._loop.call_soon(self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        """Receive until the socket has no more, or enough was received."""
        link, decoder, scratch = self._link, self._decoder, self._scratch
        try:
            for _ in range(READS):
                if not self._reading:
                    return
                body = decoder.next_buffer()
                if body is None:
                    n = link.receive_into(scratch)
                    frames = decoder.receive(bytes(scratch[:n])) if n else ()
                else:
                    n = link.receive_into(body)
                    frames = decoder.received(n) if n else ()
                if not n:
                    self._ended()
                    return
                self._take(frames, n)
                if n < len(scratch if body is None else body) and not link.pending():
                    return
        except BlockingIOError:
            pass
        except Exception as error:  # the decoder's, and no memory
            self._fail(error)
            return
        if self._reading and link.pending():
            self._loop.call_soon(self._readable)

    def _take(self, frames: Iterable[Frame], n: int) -> None:
        self._heard_since = True
        self._held += n
        before = len(self._frames)
        try:
            for frame in frames:
                if frame.kind < FIRST_OWN_KIND:
                    self._frames.append(frame)
                elif frame.kind == _BYE:
                    self._stop(ClosedError(f"{self._name} (by the peer)"))
                    break
                # Others are beats, or what a later version of this protocol may leave out.
        finally:
            # The frames before a bad one count.
            if len(self._frames) > before or self._end is not None:
                self._wake_receiver()
            if not self._frames:
                self._held = 0
            elif self._held > self.limits.receive_bytes:
                self._pause()

    # Beats

    def _tick(self) -> None:
        """Say that we live, and notice that the peer does not.

        While we do not read, for what we have is not taken, silence is no sign of death.
        """
        self._timer = self._loop.call_later(self._pace, self._tick)
        if self._sent_since:
            self._sent_since, self._unsaid = False, 0.0
        else:
            self._unsaid += self._pace
        if (
            self.limits.beat_seconds
            and not self._unsent
            and self._unsaid >= self.limits.beat_seconds / 2
        ):
            self._send(encode([], _BEAT))
        if self._heard_since or not self._reading:
            self._heard_since, self._silent = False, 0.0
        else:
            self._silent += self._pace
            if self._dead and self._silent >= self._dead:
                promised = self.agreed.peer.beat
                self._fail(
                    BrokenError(
                        self._name,
                        f"nothing came for {self._silent:g} s, although the peer sends something every "
                        f"{promised:g} s while it lives: it hangs, or the network is cut",
                    )
                )

    # The end

    @property
    def closed(self) -> bool:
        """Whether it ended: nothing more can be sent; what had come can still be received."""
        return self._end is not None or self._closing is not None

    @property
    def certificate(self) -> bytes | None:
        """The peer's certificate in DER, where there is TLS and it has one."""
        sock = self._link.sock
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    async def aclose(self) -> None:
        """Send what is queued, say goodbye, and close; at the latest after ``limits.close_seconds``.

        What came and was not received is dropped. Cancelled, it closes at once.
        """
        if self._end is not None:
            return
        if self._closing is not None:
            await asyncio.wait([self._closing])
            return
        self._closing = self._loop.create_future()
        try:
            with contextlib.suppress(TimeoutError, IsthmusError):
                async with asyncio.timeout(self.limits.close_seconds):
                    self._send(encode([], _BYE))
                    await self._sent_down_to(0)
                    self._link.finish()
                    await self._peer_closes()
        finally:
            self.abort()
            self._closing.set_result(None)

    async def _peer_closes(self) -> None:
        """Read to the end and drop it: closing a socket with bytes in it would take away what we sent."""
        self._pause()
        self._frames.clear()
        done: asyncio.Future[None] = self._loop.create_future()

        def readable() -> None:
            if done.done():
                return
            try:
                over = any(not self._link.receive_into(self._scratch) for _ in range(READS))
            except BlockingIOError:
                over = False
            except Exception:  # reset: it is closed as well
                over = True
            if over:
                done.set_result(None)
            elif self._link.pending():
                self._loop.call_soon(readable)

        self._drainers.append((-1, done))  # woken by an end of another sort
        self._loop.add_reader(self._fd, readable)
        if self._link.pending():
            readable()
        await done

    def abort(self) -> None:
        """Close at once: what is queued is lost, and the peer sees a broken connection."""
        self._frames.clear()
        self._stop(ClosedError(self._name))

    def _ended(self) -> None:
        missing = self._decoder.missing
        within = f"it ended within a frame, of which {missing} bytes did not come"
        self._stop(BrokenError(self._name, within if missing else NO_GOODBYE))

    def _fail(self, error: Exception) -> None:
        """End for a reason that may still have to be put into our words."""
        if isinstance(error, RemoteProtocolError):
            what, *details = error.args  # which do not know who it is
            error = RemoteProtocolError(f"{self._name}: {what}", *details)
        if isinstance(error, IsthmusError):
            self._stop(error)
            return
        why = (
            translate(self._name, error)
            if isinstance(error, OSError)
            else BrokenError(self._name, f"{type(error).__name__}: {error}")
        )
        why.__cause__ = error
        self._stop(why)

    def _stop(self, why: IsthmusError) -> None:
        """Let go of everything but the frames that came; whoever waits wakes up."""
        if self._end is not None:
            return
        self._end = why
        self._reading = self._writing = False
        if not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
        self._link.close()
        if self._timer is not None:
            self._timer.cancel()
        self._new, self._unsent = [], 0
        self._queue.clear()
        self._wake_drainers()
        while self._receivers:
            self._wake_receiver()

    def _ending(self) -> IsthmusError:
        """Return a fresh copy of the reason, so that no traceback grows on what is raised often."""
        why = self._end or ClosedError(self._name)
        fresh = type(why)(*why.args)
        fresh.__cause__ = why.__cause__
        return fresh

    def _forked(self) -> None:
        # The event loop's selector is shared with the parent: to unregister here would do so there.
        if self._end is not None:
            return
        self._end = ClosedError(f"{self._name}, which belongs to the process that was forked,")
        self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<{self._name}, {state}>"


def _first(queue: deque[Buffer]) -> list[Buffer]:
    if len(queue) <= 64:
        return [*queue]
    return [queue[i] for i in range(64)]
