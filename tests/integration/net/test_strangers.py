"""Who is not let in, what it is told, and that others are served meanwhile."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import logging
import os
import re
import socket
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from isthmus.errors import (
    AddressError,
    AuthenticationError,
    BrokenError,
    MissingExtraError,
    RemoteProtocolError,
    SpecError,
    WaitTimeoutError,
)
from isthmus.net import TLS, Limits, Offer, connect, fingerprint, listen, listener
from isthmus.testing.certificates import Authority
from isthmus.testing.net_contract import TOKEN, echo
from isthmus.wire.frames import encode

TLS_ADDRESS = "tls://127.0.0.1:0"


async def round_trip(connection) -> None:
    async with connection:
        connection.send([b"hello"])
        assert (await connection.receive()).payloads == (b"hello",)


def listening_with(certificate: str, client: TLS, error: type[Exception], match: str) -> None:
    async def main() -> None:
        async with await listen(TLS_ADDRESS, serve=echo, tls=TLS(certificate)) as one:
            with pytest.raises(error, match=match):
                await connect(one.address, tls=client)

    asyncio.run(main())


# TLS


def test_a_certificate_of_another_authority_is_refused(authority, tmp_path) -> None:
    stranger = Authority(tmp_path)
    good = authority.issue("127.0.0.1")
    listening_with(good, TLS(authorities=stranger.file), AuthenticationError, "not accepted")
    listening_with(good, TLS(), AuthenticationError, "unable to get local issuer")


def test_an_expired_certificate_is_refused(authority) -> None:
    client = TLS(authorities=authority.file)
    expired = authority.issue("127.0.0.1", expired=True)
    listening_with(expired, client, AuthenticationError, "has expired")


def test_a_certificate_of_another_host_is_refused(authority) -> None:
    client = TLS(authorities=authority.file)
    listening_with(authority.issue("127.0.0.9"), client, AuthenticationError, "not accepted")


def test_a_pinned_certificate_and_no_other(authority) -> None:
    pinned, other = authority.alone("endpoint"), authority.alone("endpoint")
    print_ = fingerprint(pinned)
    colons = ":".join(print_[i : i + 2] for i in range(0, 64, 2)).upper()

    async def main() -> None:
        async with await listen(TLS_ADDRESS, serve=echo, tls=TLS(pinned)) as one:
            connection = await connect(one.address, tls=TLS(fingerprints=("0" * 64, colons)))
            assert fingerprint(connection.certificate) == print_
            await round_trip(connection)

    asyncio.run(main())
    listening_with(other, TLS(fingerprints=(print_,)), AuthenticationError, "none of those")


def test_a_client_without_the_certificate_is_not_served(authority, caplog) -> None:
    server = TLS(authority.issue("127.0.0.1"), authorities=authority.file)
    asking = TLS(authorities=authority.file)

    async def main() -> None:
        async def never(connection) -> None:
            raise AssertionError(connection)

        async with await listen(TLS_ADDRESS, serve=never, tls=server) as one:
            with pytest.raises(AuthenticationError, match="this side's certificate"):
                await connect(one.address, tls=asking)
            wrong = authority.alone("127.0.0.1")
            with pytest.raises(AuthenticationError, match="this side's certificate"):
                await connect(one.address, tls=TLS(wrong, authorities=authority.file))

    asyncio.run(main())


def test_somebody_who_ends_tls_in_between_gets_no_proof(authority) -> None:
    """The attacker even has a certificate that the client accepts."""
    client = TLS(authorities=authority.file)
    server, attacker = authority.issue("127.0.0.1"), authority.issue("127.0.0.1")
    offer = Offer(token=TOKEN)

    async def main() -> None:
        async with await listen(TLS_ADDRESS, offer, serve=echo, tls=TLS(server)) as one:
            port = int(one.address.rpartition(":")[2])

            async def copy(reader, writer) -> None:
                while data := await reader.read(65536):
                    writer.write(data)
                writer.close()

            async def between(reader, writer) -> None:
                theirs = await asyncio.open_connection(
                    "127.0.0.1", port, ssl=client.client_context()
                )
                await asyncio.gather(copy(reader, theirs[1]), copy(theirs[0], writer))

            context = TLS(attacker).server_context()
            proxy = await asyncio.start_server(between, "127.0.0.1", 0, ssl=context)
            async with proxy:
                address = f"tls://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
                with pytest.raises(AuthenticationError, match="ends TLS"):
                    await connect(address, offer, tls=client)
            await round_trip(await connect(one.address, offer, tls=client))

    asyncio.run(main())


def test_one_side_with_tls_and_one_without(authority) -> None:
    async def main() -> None:
        quick = Limits(open_seconds=0.2)
        server = TLS(authority.issue("127.0.0.1"))
        async with await listen(TLS_ADDRESS, serve=echo, tls=server) as one:
            with pytest.raises(BrokenError):
                await connect(one.address.replace("tls", "tcp"))
        async with await listen("tcp://127.0.0.1:0", serve=echo, limits=quick) as one:
            with pytest.raises(BrokenError, match="TLS is on both sides"):
                await connect(
                    one.address.replace("tcp", "tls"), tls=TLS(authorities=authority.file)
                )

    asyncio.run(main())


def test_files_that_are_not_there_or_something_else(authority, tmp_path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_text("rubbish")
    wrong = [
        TLS(),
        TLS(str(tmp_path / "missing")),
        TLS(str(rubbish)),
        TLS(authority.file),  # without its key
        TLS(authority.alone("x"), authorities=str(rubbish)),
        TLS(authority.alone("x"), anchors="rubbish"),
        TLS(authority.alone("x"), fingerprints=("0" * 64,)),
    ]

    async def main() -> None:
        for tls in wrong:
            with pytest.raises(SpecError, match="TLS"):
                await listen(TLS_ADDRESS, serve=echo, tls=tls)
        for tls in wrong[1:4]:
            with pytest.raises(SpecError, match="cannot use"):
                await connect("tls://127.0.0.1:1", tls=tls)
        for refuses in (
            listen("tcp://127.0.0.1:0", serve=echo, tls=TLS()),
            connect("tcp://x:1", tls=TLS()),
        ):
            with pytest.raises(AddressError, match="TLS is for"):
                await refuses

    asyncio.run(main())


# Strangers at the door


@pytest.mark.parametrize(
    "says",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02",
        b"ISTH\x01\x00\xff\xff",
        b"ISTH\x09\x00\x00\x00",
    ],
)
def test_who_speaks_something_else_is_sent_away(says: bytes, caplog) -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", serve=echo) as one:
            reader, writer = await asyncio.open_connection("127.0.0.1", one._where.port)
            writer.write(says)
            assert await reader.read() == b""
            writer.close()
            await round_trip(await connect(one.address))

    with caplog.at_level(logging.WARNING, "isthmus.net"):
        asyncio.run(main())
    assert "was not let in" in caplog.text


def test_who_says_nothing_is_sent_away_in_time(caplog) -> None:
    async def main() -> None:
        limits = Limits(open_seconds=0.05)
        async with await listen("tcp://127.0.0.1:0", serve=echo, limits=limits) as one:
            reader, writer = await asyncio.open_connection("127.0.0.1", one._where.port)
            writer.write(b"I")
            assert await reader.read() == b""
            writer.close()

    asyncio.run(main())
    assert "no handshake within 0.05 s" in caplog.text


def test_many_who_say_nothing_keep_nobody_out(monkeypatch) -> None:
    monkeypatch.setattr(listener, "MAX_OPENING", 4)

    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", serve=echo) as one:
            mute = [await asyncio.open_connection("127.0.0.1", one._where.port) for _ in range(8)]
            await round_trip(await connect(one.address))
            for reader, _ in mute[:4]:
                assert await reader.read() == b""
            for _, writer in mute:
                writer.close()

    asyncio.run(main())


def test_who_comes_as_the_listener_closes_leaves_no_socket() -> None:
    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", serve=echo) as one:
            with socket.create_connection(("127.0.0.1", one._where.port)):
                one._accept(one._sockets[0])  # and closed before its task has begun
                await one.aclose()

    asyncio.run(main())


def test_rubbish_after_the_handshake_breaks_the_connection() -> None:
    async def main() -> None:
        ends: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def serve(connection) -> None:
            try:
                await connection.receive()
            except RemoteProtocolError as error:
                ends.set_result(str(error))

        async with await listen("tcp://127.0.0.1:0", serve=serve) as one:
            async with await connect(one.address) as connection:
                connection._send([b"\x00\x00\x01\x00\x00\x00\x00\x00"])
                assert re.search(r"127\.0\.0\.1:\d+: the peer sends no frame", await ends)

    asyncio.run(main())


def test_half_a_frame_says_how_much_is_missing() -> None:
    async def main() -> None:
        ends: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def serve(connection) -> None:
            try:
                await connection.receive()
            except BrokenError as error:
                ends.set_result(str(error))

        async with await listen("tcp://127.0.0.1:0", serve=serve) as one:
            connection = await connect(one.address)
            connection._send([encode([bytes(100)])[0][:-30]])
            await connection.flush()
            connection.abort()
            assert "ended within a frame, of which 30 bytes did not come" in await ends

    asyncio.run(main())


def test_kinds_of_a_later_version_are_passed_over(socket_folder: Path) -> None:
    async def main() -> None:
        async with await listen(f"unix://{socket_folder}/s", serve=echo) as one:
            async with await connect(one.address) as connection:
                connection._send(encode([b"news"], 250))
                connection.send([b"hello"])
                assert (await connection.receive()).payloads == (b"hello",)

    asyncio.run(main())


def test_a_server_that_says_nothing_is_not_waited_for_forever() -> None:
    async def main() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as mute:
            address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
            with pytest.raises(WaitTimeoutError, match=r"did not come within 0\.05 s"):
                await connect(address, limits=Limits(open_seconds=0.05))

    asyncio.run(main())


def test_a_unix_socket_whose_queue_is_full_is_waited_for(socket_folder: Path) -> None:
    path = str(socket_folder / "s")

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(socket.socket(socket.AF_UNIX))
            full.bind(path)
            full.listen(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    filler = stack.enter_context(socket.socket(socket.AF_UNIX))
                    filler.setblocking(False)
                    filler.connect(path)
            with pytest.raises(WaitTimeoutError):
                await connect(f"unix://{path}", limits=Limits(open_seconds=0.05))

    asyncio.run(main())


def test_a_connection_outlives_its_event_loop_without_harm(socket_folder: Path) -> None:
    async def main():
        limits = Limits(close_seconds=0.01)  # for the peer does not read the goodbye
        async with await listen(f"unix://{socket_folder}/s", serve=echo, limits=limits) as one:
            connection = await connect(one.address)
            connection.send([b"x"])
            await connection.receive()
            connection._pause()
            return connection

    asyncio.run(main()).abort()


def test_a_certificate_replaced_while_listening_stays_the_one_in_use(authority) -> None:
    file = Path(authority.issue("127.0.0.1"))
    client, offer = TLS(authorities=authority.file), Offer(token=TOKEN)

    async def main() -> None:
        async with await listen(TLS_ADDRESS, offer, serve=echo, tls=TLS(str(file))) as one:
            file.write_bytes(Path(authority.issue("127.0.0.1")).read_bytes())
            await round_trip(await connect(one.address, offer, tls=client))

    asyncio.run(main())


def test_a_server_that_goes_away_within_the_handshake() -> None:
    async def main() -> None:
        async def leave(reader, writer) -> None:
            await reader.read(1)
            writer.close()

        server = await asyncio.start_server(leave, "127.0.0.1", 0)
        async with server:
            with pytest.raises(BrokenError):
                await connect(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(main())


# Where nobody listens, or somebody else


def test_addresses_that_cannot_be_used_say_what_to_do() -> None:
    async def main() -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as other:
            port = other.getsockname()[1]
            with pytest.raises(AddressError, match=f"port {port} is in use .* 0 for any free one"):
                await listen(f"tcp://127.0.0.1:{port}", serve=echo)
        with pytest.raises(BrokenError, match=r"refused.*see that somebody listens"):
            await connect(f"tcp://127.0.0.1:{port}")
        with pytest.raises(AddressError, match="no address of this machine"):
            await listen("tcp://192.0.2.1:0", serve=echo)
        with pytest.raises(BrokenError, match=r"no address for 'a\.\.b'"):
            await connect("tcp://a..b:1")

    asyncio.run(main())


def test_localhost_is_every_address_that_it_has() -> None:
    async def main() -> None:
        async with await listen("tcp://localhost:0", serve=echo) as one:
            await round_trip(await connect(one.address))
            for sock in one._sockets:
                host = sock.getsockname()[0]
                host = f"[{host}]" if ":" in host else host
                await round_trip(await connect(f"tcp://{host}:{one._where.port}"))

    asyncio.run(main())


def test_a_websocket_has_its_path() -> None:
    async def main() -> None:
        async with await listen("ws://127.0.0.1:0/here", serve=echo) as one:
            with pytest.raises(RemoteProtocolError, match="404"):
                await connect(one.address.replace("here", "there"))
            # It waits for the rest of our request; or our nonce has a line's end, and so it is there.
            with pytest.raises((WaitTimeoutError, BrokenError)):
                await connect(
                    f"tcp://127.0.0.1:{one._where.port}", limits=Limits(open_seconds=0.05)
                )
            await round_trip(await connect(one.address))
        async with await listen("tcp://127.0.0.1:0", serve=echo) as one:
            with pytest.raises(BrokenError):
                await connect(f"ws://127.0.0.1:{one._where.port}/")

    asyncio.run(main())


def pinging(port: int, over: threading.Event, *, take: bool) -> int:
    """Open a WebSocket and ping without end, taking the answers or not; return how many were sent.

    Ends when it is let go or `over`; for a listener that can do neither, after a while.
    """
    key = base64.b64encode(os.urandom(16)).decode()
    hello = (
        "GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: isthmus\r\n\r\n"
    )
    ping = bytes([0x89, 0x80 | 125]) + bytes(4 + 125)
    some, sent = ping * 1000, 0
    with socket.create_connection(("127.0.0.1", port)) as sock, contextlib.suppress(OSError):
        sock.sendall(hello.encode())
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 101")
        if take:
            threading.Thread(target=_drain, args=(sock,)).start()
        while sent < 300_000 and not over.is_set():
            sock.sendall(some)
            sent += 1000
        sock.shutdown(socket.SHUT_RDWR)
    return sent


def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while sock.recv(1 << 20):
            pass


def test_who_only_pings_keeps_nobody_waiting() -> None:
    async def main() -> None:
        over = threading.Event()
        async with await listen("ws://127.0.0.1:0/x", serve=echo) as one:
            flood = asyncio.create_task(
                asyncio.to_thread(pinging, one._where.port, over, take=True)
            )
            while not one._opening:
                await asyncio.sleep(0.005)
            for _ in range(5):
                await round_trip(await connect(one.address))
            assert not flood.done()
            over.set()
            await flood

    asyncio.run(main())


def test_who_pings_and_takes_no_answers_is_let_go(caplog) -> None:
    async def main() -> None:
        async with await listen("ws://127.0.0.1:0/x", serve=echo) as one:
            sent = await asyncio.to_thread(pinging, one._where.port, threading.Event(), take=False)
            assert sent < 300_000

    asyncio.run(main())
    assert "takes no answers" in caplog.text


def test_without_the_library_websocket_names_its_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets", None)

    async def main() -> None:
        with pytest.raises(MissingExtraError, match=r"isthmus\[websocket\]"):
            await listen("ws://127.0.0.1:0/", serve=echo)
        async with await listen("tcp://127.0.0.1:0", serve=echo) as one:
            with pytest.raises(MissingExtraError, match=r"isthmus\[websocket\]"):
                await connect(f"ws://127.0.0.1:{one._where.port}/")

    asyncio.run(main())


# What serves


def test_what_fails_while_serving_is_logged_and_breaks_that_connection_alone(caplog) -> None:
    async def main() -> None:
        async def serve(connection) -> None:
            if (await connection.receive()).kind:
                raise ZeroDivisionError
            connection.send([b"fine"])

        async with await listen("tcp://127.0.0.1:0", serve=serve) as one:
            bad, good = await connect(one.address), await connect(one.address)
            bad.send([], 1)
            with pytest.raises(BrokenError):
                await bad.receive()
            good.send([])
            assert (await good.receive()).payloads == (b"fine",)
            await good.aclose()

    asyncio.run(main())
    assert "serving it failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_without_descriptors_it_goes_on_later(monkeypatch, caplog) -> None:
    monkeypatch.setattr(listener, "PAUSE", 0.01)

    class Full:
        """Stands for a listening socket of a process that has no descriptors left."""

        def accept(self) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

    async def main() -> None:
        async with await listen("tcp://127.0.0.1:0", serve=echo) as one:
            one._accept(Full())
            await round_trip(await connect(one.address))

    asyncio.run(main())
    assert "Too many open files; trying again" in caplog.text
