"""Before the first byte of a client: the PROXY header of the proxy in front, where a listener wants one.

Rules:

* A listener with `proxy_protocol` takes clients from `trusted` addresses only (``unix:`` among them means
  those of UNIX sockets), and from them only with a header.
* Exactly the header is taken from the socket, whatever the pieces it comes in: it is peeked at, and only
  what belongs to it is read. What follows is for whom the connection is handed on to, be it TLS, HTTP or
  bytes.
* The header must be whole within `client_header`.
* Refused (not trusted, malformed, too late): closed at once and counted, once per connection; never logged.
* The connection goes on as the client's that the header names: `Acceptor.accepted` gets that address, and
  as a third item the address that the client connected to. Without any (LOCAL, UNKNOWN) the real ones hold.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from txlb.core.proxy_protocol import MAX_LENGTH, MORE, WHOLE, HeaderReader
from txlb.forwarding.beginning import Beginning
from txlb.forwarding.listener import UNIX, Listener
from txlb.net.listener import Acceptor, Gate

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
            Preface(self, sock, peer).begin(self.listener.client_header)
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


class Preface(Beginning):
    """One connection whose header is awaited."""

    front: PrefaceAcceptor
    reader: HeaderReader

    def __init__(self, front: PrefaceAcceptor, sock: Any, peer: Any) -> None:
        super().__init__(front.gate, sock, peer)
        self.front = front
        self.reader = HeaderReader()

    def receive(self) -> bytes:
        data: bytes = self.sock.recv(AT_MOST, PEEK)
        return data

    def look(self, data: bytes) -> None:
        verdict = self.reader.feed(data)
        self.sock.recv(self.reader.used)
        if verdict == WHOLE:
            self.hand_on()
        elif verdict != MORE:
            self.refuse()

    def refused(self) -> None:
        self.front.listener.count_proxy_protocol_error()

    def pass_on(self, sock: Any) -> None:
        header = self.reader.header
        peer = self.peer
        if header is not None and header.source:
            peer = (header.source, header.source_port, (header.destination, header.destination_port))
        self.front.behind.accepted(sock, peer)
