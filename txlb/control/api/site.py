"""The HTTP server in front of the admin API: what must be refused before a route sees it.

Rules:

* Every request passes the `Guard`, and unless it does nothing of its body is read; then its body is
  bounded, by `MAX_BODY` bytes while it arrives and in depth. No route can forget any of this.
* A request must be here `RECEIVE` seconds after the connection or the last answer, however it trickles;
  an idle connection ends after `IDLE` seconds.
* At most `MAX_CONNECTIONS` at a time, `MAX_PER_SOURCE` of them from one address that is not the loopback.
* Who is refused in the middle of a body, or sends what is no HTTP, hears the answer, then is no longer read
  and cut off after `LINGER` seconds.
* A target that is a URL is split (`txlb.control.api.hosts`): its authority is put in place of the Host field.
* Every answer says ``nosniff``; every attempt is told to the `AuditLog`.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.web.http import HTTPChannel
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from txlb.control.api.audit import Attempt, AuditLog
from txlb.control.api.auth import Caller
from txlb.control.api.body import MAX_DEPTH, depth_of
from txlb.control.api.failures import source_of
from txlb.control.api.guard import EVERYBODY, Guard, Refusal
from txlb.control.api.hosts import split_target
from txlb.control.api.problems import problem

MAX_BODY = 1024 * 1024
MAX_CONNECTIONS = 64
MAX_PER_SOURCE = 16
IDLE = 60.0
RECEIVE = 20.0
LINGER = 2.0


def caller_of(request: IRequest) -> Caller:
    """Who makes this request; the `Guard` has let it in."""
    caller = getattr(request, "caller", None)
    return caller if isinstance(caller, Caller) else EVERYBODY


class AdminRequest(Request):
    """A request that is refused as early as it can be."""

    caller: Caller | None = None
    _refusal: Refusal | None = None
    _taken = 0
    _written_down = False

    def gotLength(self, length: int | None) -> None:
        channel: Any = self.channel
        self._refer()
        verdict = channel.site.guard.identify(_Fields(self), channel.local, channel.source)
        if isinstance(verdict, Caller):
            self.caller = verdict
        elif self._refusal is None:
            self._refusal = verdict
        if self._refusal is None and length is not None and length > MAX_BODY:
            self._refusal = Refusal(413, f"the body is longer than {MAX_BODY} bytes")
        super().gotLength(length if self._refusal is None else 0)  # a long one would be a file already
        if self._refusal is not None and length != 0:
            self._break_off()

    def break_off(self, refusal: Refusal) -> None:
        """What arrives is no request that could be answered in any other way."""
        self._refusal = refusal
        self._break_off()

    def handleContentChunk(self, data: bytes) -> None:
        self._taken += len(data)
        if self._refusal is not None:
            return
        if self._taken > MAX_BODY:
            self._refusal = Refusal(413, f"the body is longer than {MAX_BODY} bytes")
            self._break_off()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        super().requestReceived(command, path_of(path), version)

    def process(self) -> None:
        channel: Any = self.channel
        if self._refusal is None and self.caller is not None:
            self._refusal = channel.site.guard.permit(
                self.caller, self.method, _Fields(self), self._taken > 0
            )
        if self._refusal is None and not _is_utf8(self.path):
            self._refusal = Refusal(400, "the path is not UTF-8")
        if self._refusal is None and self._taken:
            content: Any = self.content
            if depth_of(content.read()) > MAX_DEPTH:
                self._refusal = Refusal(400, f"the body nests deeper than {MAX_DEPTH}")
            content.seek(0)
        if self._refusal is not None:
            self._refuse(self._refusal)
        else:
            self.setHeader(b"x-content-type-options", b"nosniff")
            super().process()

    def render(self, resrc: IResource) -> None:
        # after twisted.web has put in its own
        self.setHeader(b"server", b"txlb")
        super().render(resrc)

    def finish(self) -> None:
        self._write_down()
        super().finish()

    def connectionLost(self, reason: Any) -> None:
        self._write_down(gone=True)
        super().connectionLost(reason)

    def _refer(self) -> None:
        """Take the host from the target, if that names one."""
        channel: Any = self.channel
        try:
            authority, _ = split_target(channel.target)
        except ValueError as error:
            self._refusal = Refusal(400, str(error))
            return
        hosts = self.requestHeaders.getRawHeaders(b"host") or ()
        if authority is not None and len(hosts) == 1:
            self.requestHeaders.setRawHeaders(b"host", [authority])

    def _refuse(self, refusal: Refusal) -> None:
        self.setHeader(b"x-content-type-options", b"nosniff")
        self.setHeader(b"server", b"txlb")
        for name, value in refusal.fields:
            self.setHeader(name, value)
        body = problem(self, refusal.status, refusal.detail)
        self.setHeader(b"content-length", b"%d" % len(body))
        if self.method != b"HEAD":
            self.write(body)
        self.finish()

    def _break_off(self) -> None:
        """Answer now, although more of the body comes; the connection is good for nothing else."""
        channel: Any = self.channel
        refusal = self._refusal
        assert refusal is not None
        body = problem(self, refusal.status, refusal.detail)
        fields = (
            (b"Content-Type", b"application/problem+json"),
            (b"Content-Length", b"%d" % len(body)),
            (b"Connection", b"close"),
            (b"X-Content-Type-Options", b"nosniff"),
            (b"Server", b"txlb"),
            *refusal.fields,
        )
        head = b"".join(b"%s: %s\r\n" % field for field in fields)
        channel.transport.write(
            b"HTTP/1.1 %d %s\r\n%s\r\n%s" % (refusal.status, self.code_message, head, body)
        )
        self._write_down()
        channel.linger()

    def _write_down(self, gone: bool = False) -> None:
        channel: Any = self.channel
        if self._written_down or channel is None:
            return
        self._written_down = True
        refusal = self._refusal
        status = 0 if gone else self.code
        result = "allowed" if status < 400 else "refused" if status < 500 else "failed"
        channel.site.audit.record(
            Attempt(
                self.caller,
                channel.peer,
                channel.command if self.method == b"(no method yet)" else self.method,
                path_of(channel.target) if self.uri == b"(no uri yet)" else self.uri,
                status,
                "gone" if gone else result,
                "" if refusal is None else refusal.detail,
            )
        )


def path_of(target: bytes) -> bytes:
    """Without scheme and authority, which might hold a password; ``-`` of what is no target."""
    try:
        return split_target(target)[1]
    except ValueError:
        return b"-"


def _is_utf8(path: bytes) -> bool:
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _Fields:
    """The fields of a request as `Guard` looks at them."""

    def __init__(self, request: Request) -> None:
        self._headers = request.requestHeaders

    def getRawHeaders(self, name: str) -> list[str] | None:
        values: Any = self._headers.getRawHeaders(name.encode("ascii"))
        return None if values is None else [value.decode("latin-1") for value in values]


class AdminChannel(HTTPChannel):
    """One connection."""

    site: AdminSite
    peer = ""  # for the audit log
    source = ""  # for limits
    local = ""  # the address it came to; "" = a UNIX socket
    _deadline: IDelayedCall | None = None
    _lingering = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        address = transport.getPeer()
        if hasattr(address, "host"):
            self.source = source_of(address.host)
            self.peer = f"{address.host}:{address.port}"
            self.local = transport.getHost().host
        else:
            self.peer = self.source = f"unix:uid={peer_uid(transport)}"
        super().connectionMade()
        self._expect_request()
        if not self.site.admit(self):
            self.abortConnection()

    @property
    def command(self) -> bytes:
        """The method of the request that arrives."""
        return getattr(self, "_command", b"-")

    @property
    def target(self) -> bytes:
        """Its target."""
        return getattr(self, "_path", b"-")

    def dataReceived(self, data: bytes) -> None:
        if not self._lingering:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if not self._lingering:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self._lingering:
            super().rawDataReceived(data)

    def lineLengthExceeded(self, line: bytes) -> None:
        self._break_off(
            Refusal(431 if self.requests else 414, f"a line is longer than {self.MAX_LENGTH} bytes")
        )

    def allContentReceived(self) -> None:
        if not self._lingering:
            self._expect_nothing()
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        self._expect_request()
        super().requestDone(request)

    def connectionLost(self, reason: Any = None) -> None:
        self._expect_nothing()
        self.site.forget(self)
        super().connectionLost(reason)

    def linger(self) -> None:
        """The last answer is written: read no more, and end soon."""
        self._lingering = True
        self._expect_nothing()
        self.setTimeout(None)
        transport: Any = self.transport
        transport.pauseProducing()
        if not self.site.tls:
            transport.loseWriteConnection()
        self._deadline = self.callLater(LINGER, self.abortConnection)

    def end(self) -> None:
        """Everybody goes."""
        if self._lingering:
            self.abortConnection()
        else:
            self.loseConnection()

    def abortConnection(self) -> None:
        """Cut it off."""
        transport: Any = self.transport
        transport.abortConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        # in place of twisted.web's, which says nothing but the status
        self._break_off(Refusal(400, "no well-formed HTTP/1.1 request, or its head is too long"))

    def _send100Continue(self) -> None:
        if not self._lingering:  # refused already
            super()._send100Continue()

    def _break_off(self, refusal: Refusal) -> None:
        if self._lingering:
            return
        if not self.requests:  # not even a line of it is known
            self.requests.append(AdminRequest(self))
        self.requests[-1].break_off(refusal)

    def _expect_request(self) -> None:
        self._expect_nothing()
        self._deadline = self.callLater(RECEIVE, self.abortConnection)

    def _expect_nothing(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()


def peer_uid(transport: Any) -> int:
    """The user at the other end of a UNIX socket; -1 if that cannot be told."""
    try:
        packed = transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (AttributeError, OSError):
        return -1
    uid: int = struct.unpack("3i", packed)[1]
    return uid


class AdminSite(Site):
    """twisted.web's server behind a guard."""

    noisy = False
    displayTracebacks = False

    def __init__(self, resource: IResource, guard: Guard, audit: AuditLog, reactor: Any) -> None:
        options: Any = {"requestFactory": AdminRequest, "timeout": IDLE, "reactor": reactor}
        super().__init__(resource, parsePOSTFormSubmission=False, **options)
        self.protocol: Any = AdminChannel
        self.guard = guard
        self.tls = False  # whether connections come through a TLS factory
        self.audit = audit
        self._open: set[AdminChannel] = set()
        self._sources: Counter[str] = Counter()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return None if len(self._open) >= MAX_CONNECTIONS else super().buildProtocol(addr)

    def admit(self, channel: AdminChannel) -> bool:
        """Count this connection; False: it is one too many from there."""
        self._open.add(channel)
        self._sources[channel.source] += 1
        inside = not channel.local or channel.source == "::1" or channel.source.startswith("127.")
        return inside or self._sources[channel.source] <= MAX_PER_SOURCE

    def forget(self, channel: AdminChannel) -> None:
        """It is gone."""
        if channel in self._open:
            self._open.discard(channel)
            self._sources[channel.source] -= 1
            if not self._sources[channel.source]:
                del self._sources[channel.source]

    def disconnect(self) -> None:
        """End what is open: idle, lingering, or waiting for an answer that will not come."""
        for channel in list(self._open):
            channel.end()

    def log(self, request: Any) -> None:
        """No access log of the admin API: it has an audit log."""

    def _updateLogDateTime(self) -> None:
        """Nor a date for its lines: it would be made every second, and of a time that is not that of day."""
