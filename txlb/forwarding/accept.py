"""From an accepted socket to a client's connection, for every listener of streams.

Rules:

* An IPv4 client of a dual-stack socket has its IPv4 address; one of a UNIX socket has none: it is ``unix:``,
  port 0.
* With TLS the protocol comes after the handshake (`txlb.forwarding.secure`); another generation of
  certificates is for connections that come after it. Another response to staple is not one.
* With `sni` the ClientHello is read first, and only read; what was read goes to the protocol as if it
  had just come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from mypy_extensions import mypyc_attr

from txlb.core.pool import Pool
from txlb.forwarding.client import ClientProtocol
from txlb.forwarding.hello import Hello, HelloReceiver
from txlb.forwarding.listener import UNIX, Listener
from txlb.forwarding.preface import PrefaceAcceptor
from txlb.forwarding.secure import TlsReceiver
from txlb.net.handshakes import Arrival, Handshakes
from txlb.net.listener import Acceptor, Gate, ListeningSocket, Serving
from txlb.net.loop import Loop
from txlb.net.splicing import SplicingTransport
from txlb.net.tls import Handshake
from txlb.net.tls_contexts import ServerTls

if TYPE_CHECKING:
    from txlb.core.model import ListenerSpec, Snapshot
    from txlb.forwarding.access_log import AccessLog

MAPPED: Final = "::ffff:"


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamListener(Listener):
    """A listener whose clients have connections."""

    send_timeout: float
    sni: bool  # clients speak TLS that is relayed untouched, routed by server name
    tls: ServerTls | None
    tls_handshake: float
    crowd: Handshakes

    def __init__(self, id: str, loop: Loop, log: AccessLog) -> None:
        super().__init__(id, loop, log)
        self.sni = False
        self.tls = None
        self.tls_handshake = 5.0
        self.crowd = Handshakes(1024)

    def configure(self, spec: ListenerSpec, snapshot: Snapshot, pools: Mapping[str, Pool]) -> None:
        super().configure(spec, snapshot, pools)
        self.sni = spec.sni
        self.tls_handshake = snapshot.timeouts.tls_handshake
        self.crowd.limit = snapshot.limits.tls_handshakes
        if spec.tls is None:
            self.tls = None
        elif self.tls is None or not self.tls.takes(spec.tls):
            self.tls = ServerTls(spec.tls, spec.id, spec.protocol == "http")

    def plain_answer(self) -> bytes:
        """What a client is told that speaks plain HTTP where TLS is expected; b"" = nothing."""
        return b""

    def client(self, gate: Gate, ip: str, port: int) -> ClientProtocol:
        """The protocol of a connection from there; it is counted in ``gate``."""
        raise NotImplementedError

    def client_of(self, gate: Gate, ip: str, port: int, server_name: bytes) -> ClientProtocol | None:
        """The same, of one that asks for that name (b"" = none) by TLS; None: nobody serves it."""
        raise NotImplementedError

    def serve(self, gate: Gate, sock: Any) -> Serving:
        behind = HelloAcceptor(self, gate, StreamAcceptor(self, gate))
        listening = ListeningSocket(gate, PrefaceAcceptor(self, gate, behind), sock)
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
        ip, port = address_of(peer)
        tls = listener.tls
        if tls is not None:
            receiver = TlsReceiver(listener, self.gate, tls, ip, port)
            handshake = Handshake(tls.connection(sock))
            arrival = Arrival(
                self.gate, listener.crowd, receiver, sock, peer, listener.send_timeout, handshake
            )
            arrival.start(listener.tls_handshake)
            return
        protocol = listener.client(self.gate, ip, port)
        SplicingTransport(listener.loop, sock, peer, listener.send_timeout).start(protocol)


class HelloAcceptor(HelloReceiver):
    """In front of it, where clients speak TLS to somebody else: `listener.sni`."""

    listener: StreamListener
    gate: Gate
    behind: Acceptor

    def __init__(self, listener: StreamListener, gate: Gate, behind: Acceptor) -> None:
        self.listener = listener
        self.gate = gate
        self.behind = behind

    def accepted(self, sock: Any, peer: Any) -> None:
        if self.listener.sni:
            Hello(self.gate, self, sock, peer).begin(self.listener.tls_handshake)
        else:
            self.behind.accepted(sock, peer)

    def greeted(self, sock: Any, peer: Any, server_name: bytes, early: bytes) -> bool:
        listener = self.listener
        ip, port = address_of(peer)
        protocol = listener.client_of(self.gate, ip, port, server_name)
        if protocol is None:
            listener.errors_unrecognized_name += 1
            listener.touched = True
            return False
        transport = SplicingTransport(listener.loop, sock, peer, listener.send_timeout)
        transport.taken += len(early)
        transport.start(protocol)
        try:
            protocol.dataReceived(early)
        except Exception as why:
            listener.loop.contain(transport, why)
        return True

    def ungreeted(self) -> None:
        self.listener.errors_client_hello += 1
        self.listener.touched = True


def address_of(peer: Any) -> tuple[str, int]:
    """The client's address and port, of what `Acceptor.accepted` gets."""
    if not isinstance(peer, tuple):
        return UNIX, 0
    ip: str = peer[0]
    port: int = peer[1]
    if ip.startswith(MAPPED) and "." in ip:
        ip = ip[7:]
    return ip, port
