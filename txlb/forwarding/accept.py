"""From an accepted socket to a client's connection, for every listener of streams.

Rules:

* An IPv4 client of a dual-stack socket has its IPv4 address; one of a UNIX socket has none: it is ``unix:``,
  port 0.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.forwarding.client import ClientProtocol
from txlb.forwarding.listener import UNIX, Listener
from txlb.forwarding.preface import PrefaceAcceptor
from txlb.net.listener import Acceptor, Gate, ListeningSocket, Serving
from txlb.net.splicing import SplicingTransport

MAPPED: Final = "::ffff:"


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamListener(Listener):
    """A listener whose clients have connections."""

    send_timeout: float

    def client(self, gate: Gate, ip: str, port: int) -> ClientProtocol:
        """The protocol of a connection from there; it is counted in ``gate``."""
        raise NotImplementedError

    def serve(self, gate: Gate, sock: Any) -> Serving:
        listening = ListeningSocket(gate, PrefaceAcceptor(self, gate, StreamAcceptor(self, gate)), sock)
        listening.start()
        return listening


class StreamAcceptor(Acceptor):
    """Gives each connection of one listener its transport and its protocol."""

    listener: StreamListener
    gate: Gate

    def __init__(self, listener: StreamListener, gate: Gate) -> None:
        self.listener = listener
        self.gate = gate

    def accepted(self, sock: Any, peer: Any) -> None:
        listener = self.listener
        ip = UNIX
        port = 0
        if isinstance(peer, tuple):
            ip = peer[0]
            port = peer[1]
            if ip.startswith(MAPPED) and "." in ip:
                ip = ip[7:]
        protocol = listener.client(self.gate, ip, port)
        SplicingTransport(listener.loop, sock, peer, listener.send_timeout).start(protocol)
