"""Two processes: the peer is killed, stopped, or forked off in the midst of it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from isthmus.errors import AddressError, BrokenError, ClosedError
from isthmus.net import Limits, connect, listen
from isthmus.testing.net_contract import echo
from isthmus.testing.peer import Peer


def send_for_ever(_: object, address: str, size: int) -> None:
    async def main() -> None:
        connection = await connect(address)
        for number in itertools.count():
            body = os.urandom(size)
            connection.send([b"%d" % number, hashlib.sha256(body).digest(), body])
            await connection.drain()

    asyncio.run(main())


def listen_for_ever(_: object, address: str, marker: str) -> None:
    async def main() -> None:
        async with await listen(address, serve=echo):
            Path(marker).touch()
            await asyncio.Event().wait()

    asyncio.run(main())


@pytest.mark.parametrize("scheme", ["unix", "tcp"])
@pytest.mark.parametrize("size", [10, 30_000_000])
def test_a_killed_peer_leaves_no_torn_frame(socket_folder: Path, scheme: str, size: int) -> None:
    address = f"unix://{socket_folder}/s" if scheme == "unix" else "tcp://127.0.0.1:0"

    async def main(peer: Peer) -> None:
        ends: list[BrokenError] = []
        ended = asyncio.Event()

        async def serve(connection) -> None:
            count = 0
            try:
                async for frame in connection:
                    number, digest, body = frame.payloads
                    assert int(number) == count
                    assert hashlib.sha256(body).digest() == digest
                    count += 1
                    if count == 3:
                        peer.kill()  # it is sending the next ones
            except BrokenError as error:
                ends.append(error)
            finally:
                ended.set()

        async with await listen(address, serve=serve) as listener:
            peer.start(send_for_ever, listener.address, size)
            await ended.wait()
        assert len(ends) == 1, "it was told of a graceful end"
        assert any(word in str(ends[0]) for word in ("died", "did not come", "reset"))

    with Peer() as peer:
        asyncio.run(main(peer))


def test_a_peer_that_hangs_is_found_dead(tmp_path: Path, socket_folder: Path) -> None:
    address, marker = f"unix://{socket_folder}/s", tmp_path / "listening"

    async def main(peer: Peer) -> None:
        peer.start(listen_for_ever, address, str(marker))
        while not marker.exists():
            await asyncio.sleep(0.001)
        connection = await connect(address, limits=Limits(beat_seconds=0.02, dead_seconds=0.1))
        # The peer promises a beat every five seconds, so it would be given half as much again.
        assert connection._dead == 12.5
        connection._dead = 0.1
        peer.send_signal(signal.SIGSTOP)
        with pytest.raises(BrokenError, match="it hangs, or the network is cut"):
            await connection.receive()
        peer.send_signal(signal.SIGCONT)

    with Peer() as peer:
        asyncio.run(main(peer))
        peer.kill()


def test_beats_keep_an_idle_connection_alive_and_silence_counts_only_while_reading(
    socket_folder: Path,
) -> None:
    limits = Limits(beat_seconds=0.02, dead_seconds=0.2, receive_bytes=1000)

    async def main() -> None:
        beats = asyncio.Event()

        async def serve(connection) -> None:
            await beats.wait()
            connection.send([bytes(5000)])
            await connection.flush()
            await beats.wait()
            async for _ in connection:
                pass

        async with await listen(f"unix://{socket_folder}/s", serve=serve, limits=limits) as one:
            connection = await connect(one.address, limits=limits)
            for _ in range(3):  # heard of, though nothing is sent
                connection._heard_since = False
                while not connection._heard_since:
                    await asyncio.sleep(0.001)
            beats.set()
            while connection._reading:
                await asyncio.sleep(0)
            for _ in range(1000):
                connection._timer.cancel()
                connection._tick()
            assert not connection.closed
            assert len((await connection.receive()).payloads[0]) == 5000
            await connection.aclose()

    asyncio.run(main())


def test_a_dead_process_leaves_a_socket_that_is_taken_over(tmp_path, socket_folder: Path) -> None:
    path = socket_folder / "s"
    address, marker = f"unix://{path}", tmp_path / "listening"

    async def main() -> None:
        with Peer() as peer:
            peer.start(listen_for_ever, address, str(marker))
            while not marker.exists():
                await asyncio.sleep(0.001)
            with pytest.raises(AddressError, match="another process listens there"):
                await listen(address, serve=echo)
            peer.kill()
        assert path.exists()
        with pytest.raises(BrokenError, match="see that somebody listens there"):
            await connect(address)
        for _ in range(2):
            async with await listen(address, serve=echo), await connect(address) as connection:
                connection.send([b"x"])
                await connection.receive()
        assert os.listdir(socket_folder) == []

    asyncio.run(main())


def test_a_unix_socket_is_its_owners_alone(socket_folder: Path) -> None:
    async def main() -> None:
        path = socket_folder / "s"
        async with await listen(f"unix://{path}", serve=echo):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with await listen(f"unix://{path}", serve=echo, mode=0o660):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        path.write_text("precious")
        with pytest.raises(AddressError, match="no socket"):
            await listen(f"unix://{path}", serve=echo)
        assert path.read_text() == "precious"
        with pytest.raises(AddressError, match="No such file"):
            await listen(f"unix://{socket_folder}/missing/s", serve=echo)
        assert os.listdir(socket_folder) == ["s"]

    asyncio.run(main())


def test_a_socket_of_another_program_is_left_alone(socket_folder: Path) -> None:
    import socket

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(socket_folder / "s"))
            other.listen(1)
            with pytest.raises(AddressError, match="another program listens there"):
                await listen(f"unix://{socket_folder}/s", serve=echo)

    asyncio.run(main())


def test_a_forked_child_has_no_connection_and_disturbs_none(socket_folder: Path) -> None:
    async def main() -> None:
        address = f"unix://{socket_folder}/s"
        async with await listen(address, serve=echo) as listener:
            async with await connect(address) as connection:
                pid = os.fork()
                if not pid:
                    code = 1
                    try:
                        try:
                            connection.send([b"from the child"])
                        except ClosedError as error:
                            code = 0 if "process that was forked" in str(error) else 2
                        connection.abort()
                        try:
                            # Nothing that it does with what it inherited reaches the parent's.
                            listener.aclose().send(None)
                        except StopIteration:
                            pass
                    except BaseException as error:
                        print(repr(error), file=sys.stderr)
                        code = 3
                    finally:
                        os._exit(code)
                _, status = await asyncio.get_running_loop().run_in_executor(
                    None, os.waitpid, pid, 0
                )
                assert os.waitstatus_to_exitcode(status) == 0
                connection.send([b"from the parent"])
                assert (await connection.receive()).payloads == (b"from the parent",)
                async with await connect(address) as another:
                    another.send([b"x"])
                    await another.receive()

    asyncio.run(main())
