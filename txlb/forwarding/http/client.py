"""Client side of HTTP/1.1: one connection from a client, its requests in order.

Rules (RFC 9112 §§2, 6, 9):

* A head is parsed when it is whole; until then only its bounds and its line ends are looked
  at, each byte once. Its deadline is absolute: neither it nor the idle time-out is extended
  by single bytes. A body must advance by `BODY_PROGRESS` bytes (or end) per ``client_body``.
* Pipelined requests wait in ``inbox`` (at most `MAX_PIPELINED` bytes, then reading stops) and
  are answered in order, one exchange at a time, none while the client does not take answers.
* FIN from the client is a half-close: the exchange goes on and its answer is delivered.
  FIN in the middle of a request, RST, or a failed write end it.
* After an answer that cannot be followed by another request, closing is in stages: FIN is
  sent, what still arrives is read and dropped, then it is closed (`txlb.net.lingering`). So a 413
  is not lost to a reset.
"""

from __future__ import annotations

from typing import Any, Final

from txlb.core import termination as ends
from txlb.core.http.body import BodyReader
from txlb.core.http.collect import END_OF_HEAD, MORE, WHOLE, HeadCollector
from txlb.core.http.framing import ChunkedReader
from txlb.core.http.head import CHUNKED, LENGTH, NO_BODY, RequestHead, parse_request, refused
from txlb.forwarding.http.exchange import Exchange
from txlb.forwarding.http.identity import identity_lines
from txlb.forwarding.http.settings import HttpSettings
from txlb.forwarding.http.sides import ClientSide
from txlb.net.lingering import Lingering
from txlb.net.listener import Gate
from txlb.net.splice import SPLICE_FROM

SHORT: Final = 4096
MAX_PIPELINED: Final = 65536
MAX_TRAILER: Final = 16384
BODY_PROGRESS: Final = 4096
EMPTY_LINES: Final = 4

HEAD: Final = 0  # reading a head, or waiting for one
BODY: Final = 1  # an exchange is on, its request not yet whole
WAIT: Final = 2  # an exchange is on, its request is whole
LINGER: Final = 3  # answered for the last time: what still arrives is dropped
TUNNEL: Final = 4
CLOSED: Final = 5


class ClientConnection(ClientSide):
    """Protocol of one client connection."""

    settings: HttpSettings
    gate: Gate
    exchange: Exchange | None
    state: int
    inbox: bytes
    partial: HeadCollector | None
    body: BodyReader | None
    body_mark: int
    reading_paused: bool
    advancing: bool
    closing: Lingering | None
    served: bool
    realm: str  # whose rule about client certificates the connection was made under; "" = none
    __slots__ = tuple(__annotations__)

    def __init__(self, settings: HttpSettings, gate: Gate, ip: str, port: int) -> None:
        super().__init__()
        self.blocked = False
        self.settings = settings
        self.gate = gate
        self.ip = ip
        self.port = port
        self.trusted = settings.is_trusted(ip)
        self.suffix = ip.encode("ascii") + END_OF_HEAD
        self.exchange = None
        self.state = HEAD
        self.inbox = b""
        self.partial = None
        self.body = None
        self.body_mark = 0
        self.reading_paused = False
        self.read_closed = False
        self.advancing = False
        self.closing = None
        self.served = False
        self.realm = ""

    def introduced(self, realm: str, certificate: Any) -> None:
        super().introduced(realm, certificate)
        self.realm = realm
        lines = identity_lines(realm, certificate)
        if lines:
            self.suffix = self.ip.encode("ascii") + b"\r\n" + lines + b"\r\n"

    # -- protocol -------------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.transport.registerProducer(self, True)
        settings = self.settings
        settings.connections += 1
        settings.connections_total += 1
        settings.touched = True
        settings.loop.arm(self, settings.client_header)

    def dataReceived(self, data: bytes) -> None:
        state = self.state
        if state == HEAD:
            if self.partial is not None:
                self._more_head(data)
            elif self.inbox:
                self._pipeline(data)  # there is more than the client lets us answer
            else:
                self.inbox = data
            self._advance()
        elif state == BODY:
            self._body(data)
        elif state == WAIT:
            self._pipeline(data)
        elif state == TUNNEL:
            exchange = self.exchange
            if exchange is not None and exchange.relay is not None:
                exchange.relay.from_client(data)

    def readConnectionLost(self) -> None:
        self.read_closed = True
        state = self.state
        exchange = self.exchange
        if state == HEAD:
            if self.partial is not None:
                self._refuse(refused(400, "request cut off"), ends.CLIENT_ABORT_REQUEST)
            elif not self.advancing and not self.inbox:
                self._close()
        elif state == BODY:
            if exchange is not None:
                exchange.request_refused(400, ends.CLIENT_ABORT_BODY)
        elif state == TUNNEL:
            if exchange is not None and exchange.relay is not None:
                exchange.relay.client_finished()
        elif state == LINGER:
            self._close()

    def connectionLost(self, reason: Any) -> None:
        self.settings.loop.cancel(self)
        if self.closing is not None:
            self.closing.end()
        self.state = CLOSED
        self.settings.connections -= 1
        self.settings.touched = True
        self.gate.closed()
        exchange = self.exchange
        self.exchange = None
        self.inbox = b""
        self.partial = None
        if self.kept is not None:
            self.settings.origins.idle.client_left(self)
        if exchange is not None:
            exchange.client_gone(reason.value)

    def timed_out(self, now: float) -> None:
        state = self.state
        settings = self.settings
        if state == HEAD:
            if self.partial is None and self.served:
                self._close()  # idle between requests: nothing to answer
            elif self.partial is None:
                settings.errors_client_timeout += 1
                self._close()  # never said a word
            else:
                self._refuse(refused(408, "head too slow"), ends.HEADER_TIMEOUT)
        elif state == BODY:
            exchange = self.exchange
            backend = None if exchange is None else exchange.backend
            if self.reading_paused or (backend is not None and backend.transport.is_backed_up()):
                settings.loop.arm(self, settings.client_body)
            elif self.body is not None and self.body.size - self.body_mark >= BODY_PROGRESS:
                self.body_mark = self.body.size
                settings.loop.arm(self, settings.client_body)
            elif exchange is not None:
                settings.errors_client_timeout += 1
                exchange.request_refused(408, ends.BODY_TIMEOUT)

    # -- producer: what the client does not take is not produced ------------------------------

    def pauseProducing(self) -> None:
        """The client does not take what was written."""
        self.blocked = True
        exchange = self.exchange
        if exchange is not None and exchange.backend is not None:
            exchange.backend.pace(False)

    def resumeProducing(self) -> None:
        """It has taken everything."""
        self.blocked = False
        exchange = self.exchange
        if exchange is not None and exchange.backend is not None:
            exchange.backend.pace(True)
        if self.state == HEAD:
            self.room(True)
            self._advance()

    def room(self, available: bool) -> None:
        if available:
            if self.reading_paused:
                self.reading_paused = False
                self.transport.resumeProducing()
        elif not self.reading_paused:
            self.reading_paused = True
            self.transport.pauseProducing()

    def _pipeline(self, data: bytes) -> None:
        self.inbox = self.inbox + data if self.inbox else data
        if len(self.inbox) > MAX_PIPELINED:
            self.room(False)

    # -- heads -----------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Take the next request if it is whole and may start."""
        if self.advancing:
            return
        self.advancing = True
        while self.state == HEAD and self.inbox and not self.blocked:
            data = self.inbox
            size = len(data)
            if size <= SHORT and size <= self.settings.max_head and data.endswith(END_OF_HEAD):
                end = size - 4  # most likely one request without a body; `_take` makes sure
            else:
                end = data.find(END_OF_HEAD)
            if end < 0:
                self.inbox = b""
                self._more_head(data)
            else:
                self.inbox = b""
                self._take(data, end)
        self.advancing = False
        if self.read_closed and self.state == HEAD and not self.inbox and not self.blocked:
            if self.partial is not None:
                self._refuse(refused(400, "request cut off"), ends.CLIENT_ABORT_REQUEST)
            else:
                self._close()

    def _more_head(self, data: bytes) -> None:
        """Part of a head: keep it."""
        partial = self.partial
        settings = self.settings
        if partial is None:
            partial = self.partial = HeadCollector()
            if self.served:  # the first head's deadline runs since the connection was made
                settings.loop.arm(self, settings.client_header)
        verdict = partial.add(data, settings.max_line, settings.max_head)
        if verdict == WHOLE:
            self.partial = None
            self.inbox = bytes(partial.data)
        elif verdict == 400:
            self._refuse(refused(400, "bare LF"), ends.BAD_REQUEST)
        elif verdict != MORE:
            self._refuse(refused(verdict, "head too large"), ends.REQUEST_TOO_LARGE)

    def _take(self, data: bytes, end: int) -> None:
        """A whole head, and perhaps more behind it."""
        settings = self.settings
        start = 0
        if data[0] == 13:
            # Empty lines before a request are skipped (RFC 9112 §2.2), but not many.
            while data[start : start + 2] == b"\r\n" and start < 2 * EMPTY_LINES:
                start += 2
            if start > end:
                end = data.find(END_OF_HEAD, start)
                if end < 0:
                    if start < len(data):
                        self._more_head(data[start:])
                    return
        if end - start > settings.max_head:
            line = data.find(b"\r\n", start)
            status = 414 if line - start > settings.max_line else 431
            self._refuse(refused(status, "head too large"), ends.REQUEST_TOO_LARGE, len(data))
            return
        head = parse_request(data, start, end, settings.cache, settings.max_line)
        if head.status:
            first = data.find(END_OF_HEAD, start)
            if first != end:
                # There were several: an empty line inside a head is always refused, so none
                # was taken for part of another.
                self._take(data, first)
                return
            too_large = head.status == 414 or head.status == 431
            self._refuse(head, ends.REQUEST_TOO_LARGE if too_large else ends.BAD_REQUEST, len(data))
            return
        objection = settings.objection(head, self.realm)
        if objection >= 0:
            self._refuse(head, objection, len(data))
        else:
            self._begin(head, data, end + 4)

    def _begin(self, head: RequestHead, data: bytes, start: int) -> None:
        """A verified head; its body, if any, begins at ``data[start]``."""
        self.deadline = 0.0
        self.served = True
        ip = self.ip
        if self.trusted and head.fields.forwarded_for:
            ip = self.settings.client_behind(head.fields.forwarded_for, ip)
        exchange = Exchange(self, self.settings, head, ip, self.port)
        exchange.bytes_in = start
        self.exchange = exchange
        size = len(data) - start
        framing = head.framing
        if framing == NO_BODY:
            self.state = WAIT
            if size:
                self.inbox = data[start:]
            exchange.begin(b"", True)
            return
        if framing == LENGTH and size >= head.content_length:
            self.state = WAIT
            stop = start + head.content_length
            if stop < len(data):
                self.inbox = data[stop:]
            exchange.begin(data[start:stop], True)
            return
        settings = self.settings
        self.state = BODY
        chunks = None
        if framing == CHUNKED:
            chunks = ChunkedReader(False, True, MAX_TRAILER, settings.max_fields)
            chunks.nominated = head.fields.nominated
        body = self.body = BodyReader(framing, head.content_length, chunks)
        self.body_mark = 0
        settings.loop.arm(self, settings.client_body)
        if framing == LENGTH:
            exchange.begin(body.feed(data[start:]) if size else b"", False)
            if body.left >= SPLICE_FROM:
                self._splice()
        else:
            exchange.begin(b"", False)
            if size and self.state == BODY:
                self._body(data[start:])

    # -- bodies ------------------------------------------------------------------------------------

    def _body(self, data: bytes) -> None:
        exchange = self.exchange
        body = self.body
        if exchange is None or body is None:
            return
        out = body.feed(data)
        if body.defect:
            exchange.bytes_in += len(data)
            exchange.request_refused(400, ends.BAD_REQUEST_BODY)
            return
        if 0 <= self.settings.max_body < body.size:
            exchange.bytes_in += len(data)
            exchange.request_refused(413, ends.BODY_TOO_LARGE)
            return
        if body.done:
            if body.used < len(data):
                self.inbox = data[body.used :]
            self._body_ended()
        if out or body.done:
            exchange.request_data(out, body.done)
        if body.left >= SPLICE_FROM and body.framing == LENGTH:
            self._splice()

    def _body_ended(self) -> None:
        self.body = None
        self.state = WAIT
        self.deadline = 0.0

    def _splice(self) -> None:
        """Have the kernel move the rest of a long body, if a backend is there to take it."""
        exchange = self.exchange
        body = self.body
        if exchange is not None and body is not None and exchange.backend is not None and self.state == BODY:
            self.transport.splice_to(exchange.backend.transport, body.left, self)

    def spliced(self, size: int) -> None:
        if self.body is not None:
            self.body.moved(size)
        if self.exchange is not None:
            self.exchange.request_spliced(size)

    def splice_ended(self) -> None:
        self._body_ended()
        if self.exchange is not None:
            self.exchange.request_data(b"", True)

    # -- commands of the exchange ----------------------------------------------------------------------

    def answer(self, status: int, keep_alive: bool) -> int:
        exchange = self.exchange
        minor = 1
        to_head = False
        if exchange is not None:
            minor = exchange.head.minor
            to_head = exchange.to_head
        data = self.settings.refusals.answer(status, keep_alive, minor, to_head)
        if keep_alive:
            self.transport.write(data)
        else:
            self.transport.write_last(data)
        return len(data)

    def response_ended(self, reusable: bool) -> None:
        self.exchange = None
        settings = self.settings
        self.body = None
        if reusable and not settings.draining:
            self.state = HEAD
            if self.reading_paused:
                self.room(True)
            settings.loop.arm(self, settings.client_idle)
            if self.inbox or self.read_closed:
                self._advance()
        elif self.state == WAIT and not self.inbox:
            self._close()
        else:
            self._linger()

    def broken_off(self) -> None:
        self.exchange = None
        self.transport.unregisterProducer()
        self.transport.abortConnection()

    def tunnel_opened(self) -> bytes:
        early = self.inbox
        self.inbox = b""
        self.room(True)
        self.state = TUNNEL
        self.deadline = 0.0
        self.transport.unregisterProducer()
        return early

    # -- end ---------------------------------------------------------------------------------------------

    def _refuse(self, head: RequestHead, termination: int, received: int = 0) -> None:
        """Answer a request that is not taken, then close: its end may not be known."""
        if self.partial is not None:
            received = len(self.partial.data)
        self.partial = None
        self.inbox = b""
        exchange = Exchange(self, self.settings, head, self.ip, self.port)
        exchange.bytes_in = received
        self.exchange = exchange
        self.state = BODY
        exchange.request_refused(head.status, termination)

    def _linger(self) -> None:
        self.state = LINGER
        self.inbox = b""
        self.partial = None
        if self.read_closed:
            self._close()
            return
        self.deadline = 0.0
        self.closing = Lingering(self.settings.loop, self.transport)
        self.closing.begin()

    def _close(self) -> None:
        self.state = LINGER
        self.deadline = 0.0
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def listener_id(self) -> str:
        return self.settings.id

    def backend_id(self) -> str:
        exchange = self.exchange
        backend = None if exchange is None else exchange.last_backend
        return "" if backend is None else backend.id

    def backend_connection(self) -> int:
        exchange = self.exchange
        side = None if exchange is None else exchange.backend
        return 0 if side is None else side.transport.number

    def cut_off(self) -> None:
        if self.exchange is not None:
            self.exchange.stopped()
        self.transport.abortConnection()

    def drain(self) -> None:
        if self.state == HEAD and self.partial is None and not self.inbox:
            self._close()
