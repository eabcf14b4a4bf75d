"""One HTTP request at a time, blocking in a thread while the test's reactor runs."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple

from twisted.internet.threads import deferToThread


class Answer(NamedTuple):
    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def words(self) -> list[str]:
        return self.body.decode().split()


def exchange_now(address: Any, request: bytes, within: float = 5.0) -> Answer:
    """Send these bytes on a new connection and read one answer, up to the end of the connection."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    if isinstance(address, int):
        address = ("127.0.0.1", address)
    with socket.socket(family) as one:
        one.settimeout(within)
        one.connect(address)
        one.sendall(request)
        received = b""
        while part := one.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if fields.get("transfer-encoding") == "chunked":
        body = _unchunked(body)
    return Answer(int(status.split()[1]), fields, body)


def get_now(
    address: Any, path: str = "/", host: str = "localhost", method: str = "GET", **fields: str
) -> Answer:
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n"
    return exchange_now(address, head.encode("latin-1"))


async def get(
    address: Any, path: str = "/", host: str = "localhost", method: str = "GET", **fields: str
) -> Answer:
    return await deferToThread(get_now, address, path, host, method, **fields)


async def exchange(address: Any, request: bytes) -> Answer:
    return await deferToThread(exchange_now, address, request)


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        whole += rest[:length]
        body = rest[length + 2 :] if length else b""
    return whole
