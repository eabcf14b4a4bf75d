"""Opening backend connections: a non-blocking connect, and a TLS handshake where one is due; one deadline.

Rules:

* The receiver hears exactly one of ``connected(transport)`` and ``connect_failed(outcome)``,
  never from inside `connect` itself.
* A shortage of our own (no descriptor, no port) is `outcome.UNUSED`: it says nothing about
  the backend.
* With TLS the receiver hears ``connected`` only once the backend is known to be whom we expect;
  anything else is `outcome.CONNECT_TLS`.
* A receiver that raises loses the connection.
* What is to come before anything else (a PROXY header) is sent before the receiver hears of the
  connection; a fresh connection that does not take it whole is a failed one.
* Addresses are literal IPs: nothing is resolved here.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.core import outcome as outcomes
from txlb.net.loop import READ, WRITE, Handler, Loop
from txlb.net.openssl import DONE, FAILED, WANTS_WRITE
from txlb.net.splicing import SplicingTransport
from txlb.net.stream import StreamTransport
from txlb.net.tls import Handshake, Origin, TlsTransport

# As plain numbers: a module's attributes cost a look-up each time.
SOCKET: Final[Any] = socket.SocketType
INET: Final = int(socket.AF_INET)
INET6: Final = int(socket.AF_INET6)
STREAM: Final = int(socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
TCP: Final = int(socket.IPPROTO_TCP)
NODELAY: Final = int(socket.TCP_NODELAY)
IN_PROGRESS: Final = int(errno.EINPROGRESS)
OURS: Final = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN)
)


@mypyc_attr(allow_interpreted_subclasses=True)
class Receiver:
    """Who asked for a connection."""

    def connected(self, transport: StreamTransport) -> None:
        """Connected and watched; call ``transport.take_over(protocol)`` now."""
        raise NotImplementedError

    def connect_failed(self, outcome: int) -> None:
        """No connection, and why (`txlb.core.outcome`)."""
        raise NotImplementedError


class Connecting(Handler):
    """One attempt; `cancel` it when nobody waits for it any more."""

    loop: Loop
    receiver: Receiver | None
    sock: Any
    fd: int
    peer: Any
    send_timeout: float
    preface: bytes
    outcome: int
    secure: Origin | None
    handshake: Handshake | None
    interest: int

    def __init__(
        self, loop: Loop, receiver: Receiver, send_timeout: float, secure: Origin | None = None
    ) -> None:
        """``secure``: TLS, and whom we expect there."""
        super().__init__()
        self.loop = loop
        self.receiver = receiver
        self.sock = None
        self.fd = -1
        self.peer = None
        self.send_timeout = send_timeout
        self.preface = b""
        self.outcome = outcomes.UNUSED
        self.secure = secure
        self.handshake = None
        self.interest = WRITE

    def begin(self, address: str, port: int, timeout: float, preface: bytes = b"") -> None:
        """Start the attempt; it ends within ``timeout`` seconds. ``preface`` is sent first, before TLS."""
        self.preface = preface
        self.peer = (address, port)
        try:
            self.sock = SOCKET(INET6 if ":" in address else INET, STREAM, 0)
            self.sock.setsockopt(TCP, NODELAY, 1)
            code: int = self.sock.connect_ex(self.peer)
        except OSError as why:
            code = why.errno or errno.EIO
        if code == IN_PROGRESS or code == 0:
            self.fd = self.sock.fileno()
            self.loop.add(self.fd, self, WRITE)
            self.loop.arm(self, timeout)
        else:
            self.outcome = outcome_of(code)
            self.loop.defer(self)

    def ready(self, events: int) -> None:
        if self.receiver is None or self.sock is None:
            return
        secure = self.secure
        if self.handshake is None:
            # With epoll a connect that failed is more than writable.
            told = events == WRITE and self.loop.forgets_closed
            code: int = 0 if told else self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._fail(outcome_of(code))
                return
            if self.preface and not self._announced():
                self._fail(outcomes.CONNECT_FAILED)
                return
            if secure is None:
                self._connected(SplicingTransport(self.loop, self.sock, self.peer, self.send_timeout))
                return
            self.handshake = Handshake(secure.connection(self.sock))
        handshake = self.handshake
        if secure is None or handshake is None:
            return
        result = handshake.step()
        if result == FAILED:
            secure.failed(handshake.problem)
            self._fail(outcomes.CONNECT_TLS)
        elif result != DONE:
            interest = WRITE if result == WANTS_WRITE else READ
            if interest != self.interest:
                self.interest = interest
                self.loop.modify(self.fd, interest)
        elif not secure.accepts(handshake.tls):
            self._fail(outcomes.CONNECT_TLS)
        else:
            transport = TlsTransport(self.loop, self.sock, self.peer, self.send_timeout, handshake.tls)
            transport.sessions = secure
            self._connected(transport)

    def _connected(self, transport: StreamTransport) -> None:
        receiver = self.receiver
        if receiver is None:
            return
        self.loop.cancel(self)
        self.sock = None
        self.receiver = None
        try:
            receiver.connected(transport)
        except Exception:
            transport.abortConnection()
            raise

    def _announced(self) -> bool:
        try:
            sent: int = self.sock.send(self.preface)
        except OSError:
            return False
        return sent == len(self.preface)

    def later(self) -> None:
        self._fail(self.outcome)

    def timed_out(self, now: float) -> None:
        self._fail(outcomes.CONNECT_TIMEOUT)

    def failed(self, why: BaseException) -> None:
        self._fail(outcomes.UNUSED)

    def cancel(self) -> None:
        """Forget the attempt: the receiver hears nothing."""
        self.receiver = None
        self._close()

    def _fail(self, outcome: int) -> None:
        receiver = self.receiver
        self.receiver = None
        self._close()
        if receiver is not None:
            receiver.connect_failed(outcome)

    def _close(self) -> None:
        self.loop.cancel(self)
        sock = self.sock
        handshake = self.handshake
        if handshake is not None:
            handshake.tls.set_app_data(None)
        if sock is not None:
            self.sock = None
            if self.fd >= 0:
                self.loop.remove(self.fd, True)
            sock.close()


def outcome_of(code: int) -> int:
    """What an errno of ``connect`` says about the backend."""
    if code == errno.ECONNREFUSED:
        return outcomes.CONNECT_REFUSED
    if code == errno.ETIMEDOUT:
        return outcomes.CONNECT_TIMEOUT
    if code in OURS:
        return outcomes.UNUSED
    return outcomes.CONNECT_FAILED
