"""One TLS handshake over a socket pair, without a loop: a `ServerTls` and a client of pyOpenSSL."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from OpenSSL import SSL

from txlb.net.openssl import DONE, FAILED, was_resumed
from txlb.net.tls import Handshake
from txlb.net.tls_contexts import ServerTls


@dataclass
class Outcome:
    """Of one handshake without a network."""

    through: bool
    problem: str = ""
    names: tuple[str, ...] = ()
    key: str = ""
    realm: int = 0
    resumed: bool = False
    session: Any = None
    alpn: bytes = b""
    cipher: str = ""
    shown: bool = False  # the client's certificate is known
    stapled: bytes | None = None  # the response that the client got; None: it did not ask


def shake(
    server: ServerTls,
    name: str | None,
    client: Any,
    session: Any = None,
    alpn: list[bytes] | None = None,
    status: bool = False,
) -> Outcome:
    """One handshake, with a word from the server, which brings the tickets; ``status``: OCSP is asked for."""
    near, far = socket.socketpair()
    try:
        near.setblocking(False)
        far.setblocking(False)
        ours = server.connection(near)
        handshake = Handshake(ours)
        theirs = SSL.Connection(client, far)
        theirs.set_connect_state()
        if name is not None:
            theirs.set_tlsext_host_name(name.encode())
        if alpn is not None:
            theirs.set_alpn_protos(alpn)
        if session is not None:
            theirs.set_session(session)
        responses: list[bytes] = []
        if status:
            theirs.set_app_data(responses)
            theirs.request_ocsp()
        result = 1
        for _ in range(10):
            try:
                theirs.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as why:
                return Outcome(False, str(why))
            if result not in (DONE, FAILED):
                result = handshake.step()
        if result != DONE:
            return Outcome(False, handshake.problem)
        ours.send(b"!")
        try:
            assert theirs.recv(100) == b"!"
        except SSL.Error as why:
            return Outcome(False, str(why))
        shown = theirs.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        theirs.set_shutdown(SSL.SENT_SHUTDOWN)
        return Outcome(
            True,
            names=tuple(names.get_values_for_type(x509.DNSName)),
            key=type(shown.public_key()).__name__,
            realm=handshake.realm,
            resumed=was_resumed(ours),
            session=theirs.get_session(),
            alpn=theirs.get_alpn_proto_negotiated(),
            cipher=theirs.get_cipher_name() or "",
            shown=ours.get_peer_certificate() is not None,
            stapled=b"".join(responses) if status else None,
        )
    finally:
        near.close()
        far.close()


def client_of(version: str = "1.3", mine: dict[str, str] | None = None, ciphers: bytes = b"") -> Any:
    context = SSL.Context(SSL.TLS_METHOD)
    only = SSL.TLS1_2_VERSION if version == "1.2" else SSL.TLS1_3_VERSION
    context.set_min_proto_version(only)
    context.set_max_proto_version(only)
    context.set_ocsp_client_callback(lambda tls, data, extra: tls.get_app_data().append(data) is None)
    if ciphers:
        context.set_cipher_list(ciphers)
    if mine is not None:
        context.use_certificate_chain_file(mine["chain"])
        context.use_privatekey_file(mine["key"])
    return context
