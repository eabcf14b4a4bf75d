"""A TCP connection by the byte, with HTTP/1.1 framing on top: for clients and origins in tests.

Rules:

* Nothing is repaired: heads keep their exact bytes, names keep their case, and framing that does not add
  up is an `AssertionError`.
* Everything blocks, and nothing for longer than `PATIENCE` seconds.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import NamedTuple, Self

#: How long a read or write may take. Only a hang lasts as long.
PATIENCE = 20.0


class Ended(Exception):
    """The peer closed before the message was whole."""


class Message(NamedTuple):
    """One message as it came: ``head`` up to and including its empty line."""

    head: bytes
    body: bytes = b""
    trailer: bytes = b""

    @property
    def start(self) -> str:
        """The request line or status line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def status(self) -> int:
        return int(self.start.split(" ")[1])

    @property
    def method(self) -> str:
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        return self.start.split(" ")[1]

    @property
    def fields(self) -> list[tuple[str, str]]:
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        return [(name, value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]

    @property
    def names(self) -> set[str]:
        """Names of the fields, lower case."""
        return {name.lower() for name, _ in self.fields}

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of a field that comes once, None if it does not come."""
        values = self.all(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else None


class Wire:
    """One connection. ``with`` closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE)
        self.buffer = b""

    @classmethod
    def to(cls, port: int, host: str = "127.0.0.1", receive_buffer: int = 0) -> Self:
        sock = socket.socket(socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        try:
            sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def finish(self) -> None:
        """FIN: nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.sock.sendall(piece)

    def more(self) -> bytes:
        """What comes next; b"" at the end."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        return self.sock.recv(1 << 18)

    def until(self, mark: bytes) -> bytes:
        """Up to and including ``mark``."""
        while (found := self.buffer.find(mark)) < 0:
            data = self.sock.recv(1 << 16)
            if not data:
                raise Ended(self.buffer)
            self.buffer += data
        end = found + len(mark)
        data, self.buffer = self.buffer[:end], self.buffer[end:]
        return data

    def exactly(self, size: int) -> bytes:
        pieces = []
        while size > 0:
            data = self.more()
            if not data:
                raise Ended(b"".join(pieces))
            if len(data) > size:
                data, self.buffer = data[:size], data[size:]
            size -= len(data)
            pieces.append(data)
        return b"".join(pieces)

    def discard(self, size: int) -> int:
        """Read ``size`` bytes and forget them; how many there were before the end."""
        left = size
        while left > 0:
            data = self.more()
            if not data:
                break
            if len(data) > left:
                data, self.buffer = data[:left], data[left:]
            left -= len(data)
        return size - left

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        pieces = []
        while data := self.more():
            pieces.append(data)
        return b"".join(pieces)

    def at_end(self) -> bool:
        """Whether the peer has nothing more to say; waits for that."""
        return not self.buffer and not self.sock.recv(1)

    def is_reset(self) -> bool:
        """Whether what comes next is a RST; waits for whatever comes."""
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False

    def head(self) -> bytes:
        return self.until(b"\r\n\r\n")

    def chunks(self) -> tuple[bytes, bytes]:
        """A chunked body: data and trailer."""
        pieces = []
        while True:
            line = self.until(b"\r\n")
            size = int(line[:-2], 16)
            if size == 0:
                break
            pieces.append(self.exactly(size))
            assert self.exactly(2) == b"\r\n"
        trailer = b""
        while (line := self.until(b"\r\n")) != b"\r\n":
            trailer += line
        return b"".join(pieces), trailer

    def request(self) -> Message:
        """One whole request."""
        message = Message(self.head())
        return self.request_body(message)

    def request_body(self, message: Message) -> Message:
        """``message`` with the body that its head announces."""
        if message.get("transfer-encoding") is not None:
            assert str(message.get("transfer-encoding")).lower() == "chunked", message.head
            assert message.get("content-length") is None, message.head
            return Message(message.head, *self.chunks())
        return message._replace(body=self.exactly(int(message.get("content-length") or 0)))

    def answer(self, method: str = "GET") -> Message:
        """One whole answer to a request with ``method``."""
        message = Message(self.head())
        if method == "HEAD" or message.status < 200 or message.status in (204, 304):
            return message
        if message.get("transfer-encoding") is not None:
            assert str(message.get("transfer-encoding")).lower() == "chunked", message.head
            assert message.get("content-length") is None, message.head
            return Message(message.head, *self.chunks())
        if (size := message.get("content-length")) is not None:
            return message._replace(body=self.exactly(int(size)))
        return message._replace(body=self.rest())

    def ask(self, head: str, body: bytes = b"") -> Message:
        """Send one request, line ends as in ``head`` (LF becomes CRLF), and read its answer."""
        self.send(lines(head) + body)
        return self.answer(head.split(" ", 1)[0])


def lines(head: str) -> bytes:
    """A head written with plain line ends: CRLF on the wire, empty line added."""
    return "".join(line.strip() + "\r\n" for line in head.strip().split("\n")).encode("latin-1") + b"\r\n"


def get(path: str = "/", *fields: str, version: str = "1.1") -> bytes:
    """A GET with Host and ``fields``."""
    return lines("\n".join((f"GET {path} HTTP/{version}", "Host: test.example", *fields)))


def ok(body: bytes = b"", *fields: str, status: str = "200 OK") -> bytes:
    """An answer with Content-Length."""
    return lines("\n".join((f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields))) + body


def chunked(*pieces: bytes, trailer: bytes = b"") -> bytes:
    """A chunked body of ``pieces``."""
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"
