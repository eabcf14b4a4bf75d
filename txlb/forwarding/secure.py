"""Clients of a listener with TLS, from the handshake to their protocol.

Rules:

* The protocol is made when the handshake is done: what never gets there has cost a descriptor and the memory
  of a handshake, no more.
* A client of names that ask for a certificate has shown a valid one, or none where that is allowed: this is
  looked at once more, whatever OpenSSL was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from txlb.forwarding.client import ClientProtocol
from txlb.net.handshakes import (
    CERTIFICATE,
    CROWDED_OUT,
    PLAIN_HTTP,
    PROTOCOL,
    TIMED_OUT,
    Arrival,
    SecureReceiver,
)
from txlb.net.listener import Gate
from txlb.net.openssl import was_resumed
from txlb.net.tls import TlsTransport
from txlb.net.tls_contexts import ServerTls

if TYPE_CHECKING:
    from txlb.forwarding.accept import StreamListener


class TlsReceiver(SecureReceiver):
    """Gives each client of one listener its protocol."""

    listener: StreamListener
    gate: Gate
    tls: ServerTls
    ip: str
    port: int

    def __init__(self, listener: StreamListener, gate: Gate, tls: ServerTls, ip: str, port: int) -> None:
        self.listener = listener
        self.gate = gate
        self.tls = tls
        self.ip = ip
        self.port = port

    def secured(self, transport: TlsTransport, arrival: Arrival) -> None:
        listener = self.listener
        listener.touched = True
        realm = self.tls.realms[arrival.handshake.realm]
        certificate: Any = None
        if realm.ca:
            certificate = transport.tls.get_peer_certificate(as_cryptography=True)
            if certificate is None and realm.required:
                listener.errors_tls_client_certificate += 1
                self.gate.closed()
                transport.abortConnection()
                return
        if was_resumed(transport.tls):
            listener.tls_resumed += 1
        else:
            listener.tls_full += 1
        protocol: ClientProtocol = listener.client(self.gate, self.ip, self.port)
        protocol.introduced(realm.key, certificate)
        transport.take_over(protocol)

    def unsecured(self, kind: int) -> None:
        listener = self.listener
        listener.touched = True
        if kind == PROTOCOL:
            listener.errors_tls_handshake += 1
        elif kind == TIMED_OUT:
            listener.errors_tls_timeout += 1
        elif kind == CERTIFICATE:
            listener.errors_tls_client_certificate += 1
        elif kind == CROWDED_OUT:
            listener.errors_tls_crowded += 1
        elif kind == PLAIN_HTTP:
            listener.errors_tls_plain_http += 1

    def plain_answer(self) -> bytes:
        return self.listener.plain_answer()
