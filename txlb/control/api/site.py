"""The HTTP server in front of the admin API: what must be refused before a route sees it.

Rules:

* The Host must name this machine's loopback (or the address bound to): a web page that
  resolves its own name to 127.0.0.1 gets nothing. On a UNIX socket any Host will do.
* A foreign Origin is refused: no browser has business here.
* A body of more than `MAX_BODY` bytes is refused while it arrives, chunked or not.
* At most `MAX_CONNECTIONS` at a time, each ended after `IDLE` seconds of silence.
* Every answer says ``nosniff``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from txlb.control.api.app import problem

MAX_BODY = 1024 * 1024
MAX_CONNECTIONS = 64
IDLE = 60.0


def host_of(header: str) -> str:
    """The host of a Host field without its port, lower case, brackets removed; "" if malformed."""
    host = header.strip().lower()
    if host.startswith("["):
        inner, bracket, rest = host[1:].partition("]")
        return inner if bracket and (not rest or rest[0] == ":") else ""
    name, _, port = host.partition(":")
    return name if not port or port.isdigit() else ""


def is_loopback_host(header: str | None, bound: str) -> bool:
    """Does this Host field name the loopback, or exactly the address we are bound to?"""
    host = host_of(header or "")
    if host in ("localhost", bound):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class AdminRequest(Request):
    """A request that is refused early when it must be."""

    host_allowed: Callable[[str | None], bool] = staticmethod(lambda header: True)
    _taken = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        super().gotLength(length)
        if length is not None and length > MAX_BODY:
            self._refuse_body()

    def handleContentChunk(self, data: bytes) -> None:
        self._taken += len(data)
        if self._taken > MAX_BODY and not self._refused:
            self._refuse_body()
        if not self._refused:
            super().handleContentChunk(data)

    def process(self) -> None:
        self.setHeader(b"x-content-type-options", b"nosniff")
        if not self.host_allowed(self.getHeader("host")):
            self._finish(problem(self, 403, "the Host of this request is not allowed here"))
            return
        origin = self.getHeader("origin")
        if origin is not None and not self.host_allowed(origin.partition("://")[2]):
            self._finish(problem(self, 403, "the Origin of this request is not allowed here"))
            return
        super().process()

    def render(self, resrc: IResource) -> None:
        # after twisted.web has put in its own
        self.setHeader(b"server", b"txlb")
        super().render(resrc)

    def _finish(self, body: bytes) -> None:
        self.setHeader(b"content-length", b"%d" % len(body))
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def _refuse_body(self) -> None:
        self._refused = True
        channel: Any = self.channel
        channel.transport.write(
            b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        channel.loseConnection()


class AdminSite(Site):
    """Counts connections; otherwise twisted.web's own server."""

    noisy = False
    displayTracebacks = False

    def __init__(self, resource: IResource, host_allowed: Callable[[str | None], bool], reactor: Any) -> None:
        request_class = type("AdminRequest", (AdminRequest,), {"host_allowed": staticmethod(host_allowed)})
        options: Any = {"requestFactory": request_class, "timeout": IDLE, "reactor": reactor}
        super().__init__(resource, **options)
        self._open = 0

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if self._open >= MAX_CONNECTIONS:
            return None
        channel: Any = super().buildProtocol(addr)
        self._open += 1
        lost = channel.connectionLost

        def connection_lost(reason: Any) -> None:
            self._open -= 1
            lost(reason)

        channel.connectionLost = connection_lost
        return channel

    def log(self, request: Any) -> None:
        """No access log of the admin API."""
