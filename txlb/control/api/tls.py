"""TLS of the admin port: a plain OpenSSL context on Twisted's own TLS.

Rules:

* Chain and key are read and matched when the port is bound and at each reload; what cannot be used is a
  `CertificateError`. Connections that are open keep the certificate they began with.
* TLS 1.2 or newer; a client that offers protocols by ALPN of which we speak none gets none, not an alert.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from txlb.core.model import AdminTlsSpec
from txlb.errors import TxlbError

VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}


class CertificateError(TxlbError):
    """Certificate or key cannot be used."""


def read_context(spec: AdminTlsSpec) -> tuple[SSL.Context, float]:
    """What connections get, and the POSIX time at which its certificate ends. Raises `CertificateError`."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(VERSIONS[spec.min_version])
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    for what, path, use in (
        ("certificate", spec.chain, context.use_certificate_chain_file),
        ("key", spec.key, context.use_privatekey_file),
    ):
        try:
            with open(path, "rb"):
                pass
            use(path)
        except OSError as error:
            raise CertificateError(f"admin.tls: {path} cannot be read: {error.strerror}") from None
        except SSL.Error as error:
            raise CertificateError(f"admin.tls: {path} is no usable PEM {what}: {_reason(error)}") from None
    try:
        context.check_privatekey()
    except SSL.Error:
        raise CertificateError(f"admin.tls: {spec.key} is not the key of {spec.chain}") from None
    context.set_alpn_select_callback(_protocol)
    with open(spec.chain, "rb") as file:
        certificate = x509.load_pem_x509_certificate(file.read())
    return context, certificate.not_valid_after_utc.timestamp()


def _protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    return b"http/1.1" if b"http/1.1" in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _reason(error: SSL.Error) -> str:
    details = error.args[0] if error.args else ()
    return details[0][2] if details else "not PEM"


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """What new connections get; ``context`` may be exchanged."""

    def __init__(self, context: SSL.Context) -> None:
        self.context = context

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """See `IOpenSSLServerConnectionCreator`."""
        return SSL.Connection(self.context, None)
