"""Backend side of HTTP/1.1: one connection to a backend, one exchange at a time.

Rules (RFC 9112 §§6, 9):

* An answer's head is parsed strictly; what is malformed or ambiguous is 502, never passed on.
* 1xx answers are relayed to HTTP/1.1 clients, at most `MAX_INTERIM`; 101 only where a
  WebSocket upgrade was asked for.
* Bytes beyond the end of an answer, or while no exchange is on, make the connection useless;
  so does a request that it has not taken in full when its answer ends.
* A body that ends with the connection is passed to HTTP/1.1 clients as chunks, so that the
  client can tell its end from a break.
* Over TLS such a body ends with close_notify: without, it was cut, and the client must see that.
* Silence of ``backend_response`` seconds while something is awaited ends the exchange; time
  during which the client does not take what was sent does not count.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr
from twisted.internet.error import ConnectionClosed

from txlb.core.backend import Backend
from txlb.core.http.body import BodyReader
from txlb.core.http.framing import ChunkedReader
from txlb.core.http.head import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, ResponseHead, parse_response
from txlb.errors import SendStalled
from txlb.forwarding.http.exchange import Exchange
from txlb.forwarding.http.sides import BackendSide, ClientSide
from txlb.net.loop import Loop
from txlb.net.splice import SPLICE_FROM

MAX_HEAD: Final = 65536
MAX_FIELDS: Final = 500
MAX_TRAILER: Final = 16384
MAX_INTERIM: Final = 16
COPIED: Final = 16384  # bytes: up to here two copies take less time than making a view
MAX_REMEMBERED: Final = 1024
END_OF_HEAD: Final = b"\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"

IDLE: Final = 0
HEAD: Final = 1
BODY: Final = 2
TUNNEL: Final = 3
CLOSED: Final = 4


@mypyc_attr(allow_interpreted_subclasses=True)
class IdleStore:
    """Where connections wait between exchanges, and the head of an answer that any of them met last."""

    loop: Loop
    last_raw: bytes
    last_head: ResponseHead | None
    last_to_head: bool  # it answered HEAD

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.last_raw = b""
        self.last_head = None
        self.last_to_head = False

    def put(self, connection: BackendConnection) -> bool:
        raise NotImplementedError

    def remove(self, connection: BackendConnection) -> None:
        raise NotImplementedError

    def expired(self, connection: BackendConnection, now: float) -> None:
        raise NotImplementedError


class BackendConnection(BackendSide):
    """Protocol of one backend connection."""

    store: IdleStore
    exchange: Exchange | None
    state: int
    body: BodyReader | None
    partial: bytearray | None
    last_raw: bytes
    last_head: ResponseHead | None
    last_to_head: bool
    interim: int
    keep_alive: bool
    wrap: bool
    idle_since: float
    older: BackendConnection | None  # idle ones of a backend, chained by when they were used
    newer: BackendConnection | None
    paused: bool
    address: str  # where it leads; the backend may have moved since
    port: int
    secure: Any  # the `Origin` it was opened for
    owner: ClientSide | None  # the client that a PROXY header announced: nobody else uses it
    version: int  # of that header
    announced: bytes
    __slots__ = tuple(__annotations__)

    def __init__(self, backend: Backend, store: IdleStore, address: str, port: int) -> None:
        super().__init__()
        self.reused = False
        self.backend = backend
        self.store = store
        self.exchange = None
        self.state = IDLE
        self.body = None
        self.partial = None
        self.last_raw = b""
        self.last_head = None
        self.last_to_head = False
        self.interim = 0
        self.keep_alive = False
        self.wrap = False
        self.idle_since = 0.0
        self.older = None
        self.newer = None
        self.paused = False
        self.address = address
        self.port = port
        self.secure = None
        self.owner = None
        self.version = 0
        self.announced = b""

    def speaks_for(self, owner: ClientSide, version: int, announced: bytes) -> None:
        """It began with this PROXY header."""
        self.owner = owner
        self.version = version
        self.announced = announced

    # -- commands of the exchange -----------------------------------------------------

    def begin(self, exchange: Exchange) -> None:
        """Carry ``exchange``: its request is sent next."""
        self.exchange = exchange
        self.state = HEAD
        self.interim = 0

    def send(self, data: bytes) -> None:
        self.backend.bytes_out += len(data)
        self.transport.write(data)

    def is_unanswered(self) -> bool:
        return self.state == HEAD and self.partial is None and self.interim == 0

    def release(self, reusable: bool) -> None:
        self.exchange = None
        self.deadline = 0.0
        if self.state == CLOSED:
            return
        self.state = IDLE
        self.body = None
        if self.paused:
            self.pace(True)
        if reusable and self.keep_alive and not self.transport.is_backed_up():
            self.reused = True
            if self.store.put(self):
                return
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        self.exchange = None
        self.deadline = 0.0
        if self.state != CLOSED:
            self.state = IDLE
            self.transport.unregisterProducer()
            self.transport.abortConnection()

    def cut_off(self) -> None:
        if self.exchange is not None:
            self.exchange.stopped()
        self.transport.abortConnection()

    def pace(self, wanted: bool) -> None:
        self.paused = not wanted
        if wanted:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    # -- producer: what the backend does not take, the client does not send -----------------

    def pauseProducing(self) -> None:
        """The backend does not take what was written."""
        if self.exchange is not None:
            self.exchange.client.room(False)

    def resumeProducing(self) -> None:
        """It has taken everything."""
        if self.exchange is not None:
            self.exchange.client.room(True)

    # -- protocol -----------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.transport.registerProducer(self, True)
        self.backend.connections += 1
        self.backend.touch()

    def dataReceived(self, data: bytes) -> None:
        exchange = self.exchange
        self.backend.bytes_in += len(data)
        if exchange is None:
            # Nobody asked: an idle connection that speaks is not to be trusted.
            self.store.remove(self)
            self.abort()
        elif self.state == BODY:
            exchange.heard_from_backend(self)
            self._body(exchange, data)
        elif self.state == HEAD:
            exchange.heard_from_backend(self)
            self._head(exchange, data)
        elif exchange.relay is not None:
            exchange.relay.from_backend(data)

    def readConnectionLost(self) -> None:
        exchange = self.exchange
        if exchange is None:
            self.store.remove(self)
            self.abort()
        elif self.state == TUNNEL:
            if exchange.relay is not None:
                exchange.relay.backend_finished()
        elif (
            self.state == BODY
            and self.body is not None
            and self.body.framing == UNTIL_CLOSE
            and not self.transport.is_truncated()
        ):
            self.keep_alive = False
            if self.wrap:
                exchange.send_last(LAST_CHUNK)
            exchange.response_ended()
        else:
            self.keep_alive = False
            exchange.backend_closed(self.is_unanswered())

    def connectionLost(self, reason: Any) -> None:
        backend = self.backend
        backend.connections -= 1
        backend.touch()
        self.store.loop.cancel(self)
        state = self.state
        self.state = CLOSED
        exchange = self.exchange
        self.exchange = None
        if exchange is None:
            if state == IDLE:
                self.store.remove(self)
        elif exchange.relay is not None:
            exchange.relay.backend_lost(reason.value)
        elif isinstance(reason.value, SendStalled):
            exchange.backend_stalled()
        elif not isinstance(reason.value, ConnectionClosed):
            exchange.faulted()
        else:
            exchange.backend_closed(state == HEAD and self.partial is None and self.interim == 0)

    def timed_out(self, now: float) -> None:
        exchange = self.exchange
        if exchange is None:
            self.store.expired(self, now)
        elif not exchange.is_client_slow(self):
            exchange.backend_silent()

    # -- the answer -----------------------------------------------------------------------

    def _head(self, exchange: Exchange, data: bytes) -> None:
        partial = self.partial
        last = self.last_head
        if (
            last is not None
            and partial is None
            and self.last_to_head == exchange.to_head
            and data.startswith(self.last_raw)
        ):
            # Backends repeat themselves: the same bytes mean the same head.
            self._final(exchange, last, data, len(self.last_raw) - 4)
            return
        if partial is None and self._met_elsewhere(exchange, data):
            return
        if partial is not None:
            before = len(partial)
            partial += data
            found = partial.find(END_OF_HEAD, max(0, before - 3))
            if found < 0:
                if len(partial) > MAX_HEAD:
                    exchange.backend_defective("response head too large")
                return
            data = bytes(partial)
            self.partial = None
            end = found
        else:
            end = data.find(END_OF_HEAD)
        while True:
            if end < 0:
                if len(data) > MAX_HEAD:
                    exchange.backend_defective("response head too large")
                elif data:
                    self.partial = bytearray(data)
                return
            if end > MAX_HEAD:
                exchange.backend_defective("response head too large")
                return
            head = parse_response(data, end, None, MAX_FIELDS, exchange.to_head)
            if head.refusal:
                exchange.backend_defective(head.refusal)
                return
            if head.status >= 200:
                break
            if head.status == 101:
                self._upgraded(exchange, head, data, end)
                return
            self.interim += 1
            if self.interim > MAX_INTERIM:
                exchange.backend_defective("too many interim responses")
                return
            exchange.interim_response(head, data, end)
            data = data[end + 4 :]
            if not data or self.exchange is None:
                return
            end = data.find(END_OF_HEAD)
        if end <= MAX_REMEMBERED:
            self.last_raw = data[: end + 4]
            self.last_head = head
            self.last_to_head = exchange.to_head
            store = self.store
            store.last_raw = self.last_raw
            store.last_head = head
            store.last_to_head = self.last_to_head
        self._final(exchange, head, data, end)

    def _met_elsewhere(self, exchange: Exchange, data: bytes) -> bool:
        """Backends of a kind repeat each other, too: theirs change when the second does (Date)."""
        store = self.store
        head = store.last_head
        if head is None or store.last_to_head != exchange.to_head or not data.startswith(store.last_raw):
            return False
        self.last_raw = store.last_raw
        self.last_head = head
        self.last_to_head = store.last_to_head
        self._final(exchange, head, data, len(store.last_raw) - 4)
        return True

    def _final(self, exchange: Exchange, head: ResponseHead, data: bytes, end: int) -> None:
        self.keep_alive = head.keep_alive
        framing = head.framing
        start = end + 4
        extra = len(data) - start
        if framing == NO_BODY or (framing == LENGTH and extra == head.content_length):
            out = exchange.response_started(head, data, end)
            if framing == NO_BODY and extra:
                self.keep_alive = False
                data = data[:start]
            if out is None:  # the head goes on as it came
                exchange.send_to_client(data)
            else:
                exchange.send_last(_joined(out, data, start) if extra else out)
            exchange.response_ended()
            return
        self.state = BODY
        chunks = None
        if framing == CHUNKED:
            chunks = ChunkedReader(exchange.decode, False, MAX_TRAILER, MAX_FIELDS)
            chunks.nominated = head.fields.nominated
        body = self.body = BodyReader(framing, head.content_length, chunks)
        piece = body.feed(data[start:]) if extra else b""
        if body.defect:
            exchange.backend_defective(body.defect)
            return
        out = exchange.response_started(head, data, end)
        self.wrap = framing == UNTIL_CLOSE and exchange.wrap
        self._pass_on(exchange, body, data[:start] if out is None else out, piece, extra)

    def _body(self, exchange: Exchange, data: bytes) -> None:
        body = self.body
        if body is not None:
            piece = body.feed(data)
            if body.defect:
                exchange.backend_defective(body.defect)
            else:
                self._pass_on(exchange, body, b"", piece, len(data))

    def _pass_on(self, exchange: Exchange, body: BodyReader, before: bytes, piece: bytes, fed: int) -> None:
        """A piece of the body, made of ``fed`` bytes; ``before`` goes out with it: the head."""
        if piece and self.wrap:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        if piece or before:
            out = before + piece if before else piece
            if body.done:
                exchange.send_last(out)
            else:
                exchange.send_to_client(out)
        if body.done:
            if body.used < fed:
                self.keep_alive = False
            self.body = None
            exchange.response_ended()
        elif body.framing == LENGTH and body.left >= SPLICE_FROM:
            # Have the kernel move the rest.
            self.transport.splice_to(exchange.client.transport, body.left, self)

    def spliced(self, size: int) -> None:
        self.backend.bytes_in += size
        exchange = self.exchange
        if exchange is not None and self.body is not None:
            self.body.moved(size)
            exchange.heard_from_backend(self)
            exchange.response_spliced(size)

    def splice_ended(self) -> None:
        self.body = None
        if self.exchange is not None:
            self.exchange.response_ended()

    def _upgraded(self, exchange: Exchange, head: ResponseHead, data: bytes, end: int) -> None:
        if not exchange.may_upgrade(head):
            exchange.backend_defective("unexpected 101")
            return
        self.state = TUNNEL
        self.keep_alive = False
        self.deadline = 0.0
        self.transport.unregisterProducer()
        exchange.upgraded(head, data, end)
        if end + 4 < len(data) and exchange.relay is not None:
            exchange.relay.from_backend(data[end + 4 :])


def _joined(head: bytes, data: bytes, start: int) -> bytes:
    """``head`` and ``data[start:]`` as one, a long body copied once."""
    if len(data) <= COPIED:
        return head + data[start:]
    return b"".join((head, memoryview(data)[start:]))
