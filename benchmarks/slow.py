"""Clients that hold on to their connections: the three ways of slowhttptest, so that each can be counted.

``headers`` sends a field of an endless head once a second, ``body`` a byte of a long body, ``read`` takes a
few bytes of a long answer through a small window. Rules:

* Each has its own moment within the second: all at once they would be a burst, which is another thing.
* All are connected when `SlowClients` is entered, a few at a time, and none more is made later.
* `held` says how many are still open: a figure counts only if they were there.
* They run in a thread of their own and are closed by reset.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from types import TracebackType
from typing import Self

from .procs import BenchmarkError

MODES = ("headers", "body", "read")
PACE = 1.0  # seconds between two signs of life of a connection
SMALL_WINDOW = 1024  # bytes; the kernel makes it about twice that
SIP = 32  # bytes that a slow reader takes at a time
RESET = struct.pack("ii", 1, 0)
FIRST = {
    "headers": b"GET / HTTP/1.1\r\nHost: www.example.com\r\n",
    "body": b"POST /upload HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 8192\r\n\r\n",
    "read": b"GET /bulk HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
}
NEXT = {"headers": b"X-More: 1\r\n", "body": b"x", "read": b""}


class SlowClients:
    """``count`` of them, all of one ``mode``."""

    def __init__(self, port: int, count: int, mode: str) -> None:
        self.port = port
        self.count = count
        self.mode = mode
        self._open: list[socket.socket] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        try:
            for _ in range(self.count):
                self._open.append(self._connection())
        except OSError as error:
            self._close()
            raise BenchmarkError(f"slow client {len(self._open)} of {self.count}: {error}") from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, why: BaseException | None, where: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._close()

    def held(self) -> int:
        """How many the proxy has neither answered to the end nor closed."""
        return sum(map(is_open, list(self._open)))

    def _connection(self) -> socket.socket:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if self.mode == "read":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_WINDOW)
        one.settimeout(5)
        one.connect(("127.0.0.1", self.port))
        one.sendall(FIRST[self.mode])
        one.setblocking(False)
        return one

    def _run(self) -> None:
        while True:
            for one in self._open:
                if self._stopping.wait(PACE / len(self._open)):
                    return
                with contextlib.suppress(OSError):
                    if self.mode == "read":
                        one.recv(SIP)
                    else:
                        one.send(NEXT[self.mode])

    def _close(self) -> None:
        for one in self._open:
            one.close()
        self._open.clear()


def is_open(one: socket.socket) -> bool:
    """Neither end nor reset has come, as far as the kernel knows."""
    poll = select.poll()
    poll.register(one, select.POLLRDHUP)
    return not poll.poll(0)
