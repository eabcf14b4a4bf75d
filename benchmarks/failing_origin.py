"""``python failing_origin.py PORT FILE``: a small HTTP/1.1 backend that fails when it is told to.

A signal says how from then on: SIGUSR1 = it accepts and reads but never answers, SIGUSR2 = it answers half
and resets, SIGHUP = it is well again. ``/poison`` resets the connection before any answer, at any time;
``/health`` fails as the rest does. FILE holds, as a native double, when (``time.monotonic()``) the last
request came, ``/health`` aside.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
import socket
import struct
import sys

WELL, MUTE, RESET = "well", "mute", "reset"
BODY = b"x" * 64


class Origin:
    def __init__(self, port: int, board: mmap.mmap) -> None:
        self.port = port
        self.board = board
        self.mode = WELL
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Origin: %d\r\n\r\n" % (len(BODY), port)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"GET /health "):
                    struct.pack_into("d", self.board, 0, asyncio.get_running_loop().time())
                if head.startswith(b"GET /poison "):
                    self.reset(writer)
                    return
                if self.mode == MUTE:
                    await asyncio.sleep(3600)
                if self.mode == RESET:
                    writer.write(self.answer + BODY[:10])
                    await writer.drain()
                    self.reset(writer)
                    return
                writer.write(self.answer + BODY)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()

    def reset(self, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    def becomes(self, mode: str) -> None:
        self.mode = mode


async def main(port: int, path: str) -> None:
    with open(path, "r+b" if os.path.exists(path) else "w+b") as file:
        if not file.seek(0, os.SEEK_END):
            file.write(bytes(8))
            file.flush()
        board = mmap.mmap(file.fileno(), 8)
    origin = Origin(port, board)
    loop = asyncio.get_running_loop()
    for number, mode in ((signal.SIGUSR1, MUTE), (signal.SIGUSR2, RESET), (signal.SIGHUP, WELL)):
        loop.add_signal_handler(number, origin.becomes, mode)
    server = await asyncio.start_server(origin.serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
