"""Before the first byte goes on: the ClientHello of a client whose TLS is not ours to end.

Rules:

* It is read, not answered: every byte so far goes to the receiver, which passes them on as they came.
* It must be whole within `tls_handshake`.
* What is not TLS, malformed, or too late is closed at once and counted; never logged.
* A name that nobody serves is answered with the alert unrecognized_name, then closed.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.core.client_hello import MORE, UNRECOGNIZED_NAME, WHOLE, HelloReader
from txlb.forwarding.beginning import Beginning
from txlb.net.listener import Acceptor, Gate

AT_ONCE: Final = 16384


@mypyc_attr(allow_interpreted_subclasses=True)
class HelloReceiver(Acceptor):
    """Who takes connections whose ClientHello is known."""

    def greeted(self, sock: Any, peer: Any, server_name: bytes, early: bytes) -> bool:
        """``early`` came from ``sock`` already; ``server_name`` may be b"". False: nobody serves it."""
        raise NotImplementedError

    def ungreeted(self) -> None:
        """A connection ended without a ClientHello that could be read."""
        raise NotImplementedError


class Hello(Beginning):
    """One connection whose ClientHello is awaited."""

    receiver: HelloReceiver
    reader: HelloReader

    def __init__(self, gate: Gate, receiver: HelloReceiver, sock: Any, peer: Any) -> None:
        super().__init__(gate, sock, peer)
        self.receiver = receiver
        self.reader = HelloReader()

    def receive(self) -> bytes:
        data: bytes = self.sock.recv(AT_ONCE)
        return data

    def look(self, data: bytes) -> None:
        verdict = self.reader.feed(data)
        if verdict == WHOLE:
            self.hand_on()
        elif verdict != MORE:
            self.refuse()

    def refused(self) -> None:
        self.receiver.ungreeted()

    def pass_on(self, sock: Any) -> None:
        reader = self.reader
        if self.receiver.greeted(sock, self.peer, reader.server_name, bytes(reader.raw)):
            return
        try:
            sock.send(UNRECOGNIZED_NAME)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # reset meanwhile
        sock.close()
        self.gate.closed()
