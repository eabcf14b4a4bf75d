"""Clients whose TLS handshake is under way: bounded in time and in number.

Rules:

* A handshake has one deadline, from the accepted connection to its end, however it trickles.
* At most ``limit`` are under way in a worker. One more, and the oldest gives way: an honest client needs two
  round trips, so the oldest is most likely the one that never ends.
* The receiver hears exactly one of ``secured(transport, arrival)`` and ``unsecured(kind)``; a connection that
  failed is closed and has left the gate by then.
* A client that speaks plain HTTP is told so if the receiver has words for it, and then closed in stages, like
  any refusal.
* Nothing about a client's bytes is logged: failures are counted, by kind.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.net.lingering import Lingering
from txlb.net.listener import Gate
from txlb.net.loop import ERROR, HANGUP, READ, WRITE, Handler
from txlb.net.openssl import DONE, FAILED, WANTS_WRITE
from txlb.net.stream import StreamTransport
from txlb.net.tls import Handshake, TlsTransport
from txlb.net.transport import StreamProtocol

# Why a handshake failed
PROTOCOL: Final = 0  # not TLS, a version or cipher that is not ours, a name that is not served, cut off
TIMED_OUT: Final = 1
CERTIFICATE: Final = 2  # the client's: missing, or not valid
CROWDED_OUT: Final = 3
PLAIN_HTTP: Final = 4
STOPPED: Final = 5

LAST_READ: Final = 65536
HTTP_REQUEST: Final = "http request"


@mypyc_attr(allow_interpreted_subclasses=True)
class SecureReceiver:
    """Who waits for clients to be through."""

    def secured(self, transport: TlsTransport, arrival: Arrival) -> None:
        """Watched already: call ``transport.take_over(protocol)`` now."""
        raise NotImplementedError

    def unsecured(self, kind: int) -> None:
        """A handshake failed, and why."""
        raise NotImplementedError

    def plain_answer(self) -> bytes:
        """What a client that speaks plain HTTP is told; b"" = nothing."""
        return b""


class Handshakes:
    """Those under way in one worker, the oldest first."""

    limit: int
    arrivals: dict[int, Arrival]

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.arrivals = {}

    def enter(self, arrival: Arrival) -> None:
        while len(self.arrivals) >= self.limit:
            oldest = next(iter(self.arrivals))
            self.arrivals[oldest].fail(CROWDED_OUT)
        self.arrivals[arrival.fd] = arrival

    def leave(self, arrival: Arrival) -> None:
        self.arrivals.pop(arrival.fd, None)

    def stop(self) -> None:
        """End all of them."""
        for arrival in list(self.arrivals.values()):
            arrival.fail(STOPPED)


class Arrival(Handler):
    """One accepted client on its way through the handshake."""

    gate: Gate
    crowd: Handshakes
    receiver: SecureReceiver | None
    sock: Any
    fd: int
    peer: Any
    send_timeout: float
    handshake: Handshake
    interest: int

    def __init__(
        self,
        gate: Gate,
        crowd: Handshakes,
        receiver: SecureReceiver,
        sock: Any,
        peer: Any,
        send_timeout: float,
        handshake: Handshake,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.crowd = crowd
        self.receiver = receiver
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.send_timeout = send_timeout
        self.handshake = handshake
        self.interest = READ

    def start(self, timeout: float) -> None:
        """Begin; it ends within ``timeout`` seconds."""
        if self.sock.gettimeout() != 0.0:
            self.sock.setblocking(False)
        self.crowd.enter(self)
        loop = self.gate.loop
        loop.add(self.fd, self, READ)
        loop.arm(self, timeout)

    def ready(self, events: int) -> None:
        if self.receiver is None:
            return
        if not events & (READ | WRITE) and events & (ERROR | HANGUP):
            self.fail(PROTOCOL)
            return
        result = self.handshake.step()
        if result == DONE:
            self._through()
        elif result == FAILED:
            self._refused(self.handshake.problem)
        else:
            interest = WRITE if result == WANTS_WRITE else READ
            if interest != self.interest:
                self.interest = interest
                self.gate.loop.modify(self.fd, interest)

    def timed_out(self, now: float) -> None:
        self.fail(TIMED_OUT)

    def failed(self, why: BaseException) -> None:
        self.fail(PROTOCOL)

    def fail(self, kind: int) -> None:
        """Close at once."""
        receiver = self.receiver
        if receiver is None:
            return
        self.receiver = None
        self._depart()
        self.gate.loop.remove(self.fd, True)
        self.handshake.tls.set_app_data(None)
        self.sock.close()
        self.gate.closed()
        receiver.unsecured(kind)

    def _depart(self) -> None:
        self.crowd.leave(self)
        self.gate.loop.cancel(self)

    def _through(self) -> None:
        receiver = self.receiver
        if receiver is None:
            return
        self.receiver = None
        self._depart()
        handshake = self.handshake
        transport = TlsTransport(self.gate.loop, self.sock, self.peer, self.send_timeout, handshake.tls)
        try:
            receiver.secured(transport, self)
        except Exception:
            if transport.protocol is None:
                self.gate.closed()
            transport.abortConnection()
            raise
        if transport.connected and not transport.closing and not transport.paused:
            transport.ready(READ)  # the first bytes mostly come together with the last of the handshake

    def _refused(self, problem: str) -> None:
        receiver = self.receiver
        if receiver is None:
            return
        words = receiver.plain_answer() if HTTP_REQUEST in problem else b""
        if words:
            self.receiver = None
            self._depart()
            transport = StreamTransport(self.gate.loop, self.sock, self.peer, self.send_timeout)
            transport.take_over(TurnedAway(self.gate, words))
            receiver.unsecured(PLAIN_HTTP)
        elif HTTP_REQUEST in problem:
            self.fail(PLAIN_HTTP)
        elif "not return a certificate" in problem or "certificate verify failed" in problem:
            self._last_words()
            self.fail(CERTIFICATE)
        else:
            self._last_words()
            self.fail(PROTOCOL)

    def _last_words(self) -> None:
        # The alert is sent. A close with unread bytes would be a reset, which may overtake it.
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.recv(LAST_READ)
        except OSError:
            pass


class TurnedAway(StreamProtocol):
    """Answers once, whatever comes."""

    gate: Gate
    words: bytes
    closing: Lingering | None

    def __init__(self, gate: Gate, words: bytes) -> None:
        super().__init__()
        self.gate = gate
        self.words = words
        self.closing = None

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.transport.write(self.words)
        self.closing = Lingering(self.gate.loop, self.transport)
        self.closing.begin()

    def dataReceived(self, data: bytes) -> None:
        """Whatever."""

    def connectionLost(self, reason: Any) -> None:
        if self.closing is not None:
            self.closing.end()
        self.gate.closed()
