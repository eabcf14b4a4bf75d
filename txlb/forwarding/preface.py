"""Before the first byte of a client: the PROXY header of the proxy in front, where a listener wants one.

Rules:

* A listener with `proxy_protocol` takes clients from `trusted` addresses only (``unix:`` among them means
  those of UNIX sockets), and from them only with a header.
* Exactly the header is taken from the socket, whatever the pieces it comes in: it is peeked at, and only
  what belongs to it is read. What follows is for whom the connection is handed on to, be it TLS, HTTP or
  bytes.
* The header must be whole within `client_header`, however it trickles.
* Refused (not trusted, malformed, too late): closed at once and counted, once per connection; never logged.
  A peer that connects and leaves without a word is no error: monitors do that.
* The connection goes on as the client's that the header names: `Acceptor.accepted` gets that address, and
  as a third item the address that the client connected to. Without any (LOCAL, UNKNOWN) the real ones hold.
* Until it is handed on, a connection counts at the gate like any other, and is closed when txlb stops.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from txlb.core.proxy_protocol import MAX_LENGTH, MORE, WHOLE, HeaderReader
from txlb.forwarding.listener import UNIX, Listener
from txlb.net.listener import Acceptor, Gate
from txlb.net.loop import READ, Handler

PEEK: Final = int(socket.MSG_PEEK)
AT_MOST: Final = 16 + MAX_LENGTH
MAPPED: Final = "::ffff:"


class PrefaceAcceptor(Acceptor):
    """In front of the acceptor of a listener's protocol."""

    listener: Listener
    gate: Gate
    behind: Acceptor

    def __init__(self, listener: Listener, gate: Gate, behind: Acceptor) -> None:
        self.listener = listener
        self.gate = gate
        self.behind = behind

    def accepted(self, sock: Any, peer: Any) -> None:
        if not self.listener.proxy_protocol:
            self.behind.accepted(sock, peer)
        elif self._is_trusted(peer):
            Preface(self, sock, peer).begin()
        else:
            self.listener.count_proxy_protocol_error()
            sock.close()
            self.gate.closed()

    def _is_trusted(self, peer: Any) -> bool:
        if not isinstance(peer, tuple):
            return self.listener.is_trusted(UNIX)
        address: str = peer[0]
        if address.startswith(MAPPED) and "." in address:
            address = address[len(MAPPED) :]
        return self.listener.is_trusted(address)


class Preface(Handler):
    """One connection whose header is awaited."""

    front: PrefaceAcceptor
    sock: Any
    peer: Any
    fd: int
    reader: HeaderReader
    watched: bool
    silent: bool

    def __init__(self, front: PrefaceAcceptor, sock: Any, peer: Any) -> None:
        super().__init__()
        self.front = front
        self.sock = sock
        self.peer = peer
        self.fd = sock.fileno()
        self.reader = HeaderReader()
        self.watched = False
        self.silent = True

    def begin(self) -> None:
        """The header is often there already; else wait for it."""
        listener = self.front.listener
        self.sock.setblocking(False)
        if self._read() == MORE and self.sock is not None:
            self.watched = True
            listener.loop.add(self.fd, self, READ)
            listener.loop.arm(self, listener.client_header)

    def ready(self, events: int) -> None:
        if self.sock is not None:
            self._read()

    def timed_out(self, now: float) -> None:
        self._refuse()

    def failed(self, why: BaseException) -> None:
        self.close()

    def _read(self) -> int:
        """Take what is there of the header; its verdict."""
        sock = self.sock
        try:
            data: bytes = sock.recv(AT_MOST, PEEK)
        except BlockingIOError:
            return MORE
        except OSError:
            data = b""  # reset
        if not data:
            if self.silent:
                self.close()
            else:
                self._refuse()
            return MORE
        self.silent = False
        reader = self.reader
        verdict = reader.feed(data)
        sock.recv(reader.used)
        if verdict == WHOLE:
            self._hand_on()
        elif verdict != MORE:
            self._refuse()
        return verdict

    def _hand_on(self) -> None:
        sock = self.sock
        peer = self.peer
        header = self.reader.header
        if header is not None and header.source:
            peer = (header.source, header.source_port, (header.destination, header.destination_port))
        front = self.front
        self._let_go()
        try:
            front.behind.accepted(sock, peer)
        except Exception:
            sock.close()
            front.gate.closed()
            raise

    def _refuse(self) -> None:
        self.front.listener.count_proxy_protocol_error()
        self.close()

    def _let_go(self) -> None:
        loop = self.front.listener.loop
        loop.cancel(self)
        self.sock = None
        if self.watched:
            self.watched = False
            loop.remove(self.fd, False)

    def close(self) -> None:
        """Give it up."""
        sock = self.sock
        if sock is not None:
            self._let_go()
            sock.close()
            self.front.gate.closed()
