"""The other process of `benchmarks.net`: answers over ours, over asyncio's streams, and over plain sockets.

    python -m benchmarks.net_peer FOLDER     prints addresses as JSON, serves until its input ends

FOLDER holds ``certificate.pem``. Small messages are sent back, a large one is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import sys
import threading

from isthmus.net import TLS, Connection, listen

SMALL = 100
LARGE = 100_000_000


async def ours(connection: Connection) -> None:
    while True:
        for frame in await connection.receive_all():
            connection.send([b"!"] if frame.kind else frame.payloads)
        await connection.drain()


async def streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size = int.from_bytes(await reader.readexactly(4), "little")
            data = await reader.readexactly(size)
            writer.write(b"!" if size > SMALL else size.to_bytes(4, "little") + data)
            await writer.drain()
    writer.close()


def plain(listening: socket.socket, context: ssl.SSLContext | None) -> None:
    buffer = memoryview(bytearray(1 << 20))
    while True:
        sock, _ = listening.accept()
        if context is not None:
            sock = context.wrap_socket(sock, server_side=True)
        with sock, contextlib.suppress(OSError):
            while True:
                left = LARGE
                while left:
                    n = sock.recv_into(buffer[: min(left, len(buffer))])
                    if not n:
                        break
                    left -= n
                if left:
                    break
                sock.sendall(b"!")


async def main(folder: str) -> None:
    certificate = os.path.join(folder, "certificate.pem")
    tls = TLS(certificate)
    context = tls.server_context()
    found: dict[str, object] = {}
    for kind, address, how in (
        ("unix", f"unix://{folder}/ours", None),
        ("tcp", "tcp://127.0.0.1:0", None),
        ("tls", "tls://127.0.0.1:0", tls),
        ("ws", "ws://127.0.0.1:0/", None),
    ):
        found[f"ours {kind}"] = (await listen(address, serve=ours, tls=how)).address
    await asyncio.start_unix_server(streams, f"{folder}/streams")
    for kind, chosen in (("tcp", None), ("tls", context)):
        server = await asyncio.start_server(streams, "127.0.0.1", 0, ssl=chosen)
        found[f"streams {kind}"] = server.sockets[0].getsockname()[1]
        listening = socket.create_server(("127.0.0.1", 0))
        found[f"plain {kind}"] = listening.getsockname()[1]
        threading.Thread(target=plain, args=(listening, chosen), daemon=True).start()
    print(json.dumps(found), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
