"""TLS towards one backend: whom we expect there, what we show, and the session to resume.

Rules:

* The certificate is verified against the CA, and the name or IP address in it by service-identity, before the
  first byte of ours is sent.
* A session is kept only of a connection that was verified, and resumed only by the same origin: another
  configuration is another object.
* What went wrong last is remembered for the operator (`take_problem`): the same text once a minute.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, Final

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from txlb.core.model import BackendTlsSpec
from txlb.net.tls import Origin
from txlb.net.tls_contexts import as_file, hardened, use

TOLD_AGAIN: Final = 60.0


class TlsOrigin(Origin):
    """What every connection to one backend shares."""

    spec: BackendTlsSpec
    context: Any
    host: str  # as configured: a name or an address
    name: str  # expected in the certificate
    is_address: bool
    session: Any
    problem: str
    told: str
    told_at: float

    def __init__(self, spec: BackendTlsSpec, host: str, context: Any) -> None:
        """``context`` as `client_context` makes it of ``spec``."""
        self.spec = spec
        self.host = host
        self.context = context
        self.name = spec.server_name or host
        self.is_address = is_address(self.name)
        self.session = None
        self.problem = ""
        self.told = ""
        self.told_at = 0.0

    def connection(self, sock: Any) -> Any:
        """An OpenSSL connection on a socket that is connected."""
        tls = SSL.Connection(self.context, sock)
        if not self.is_address:
            tls.set_tlsext_host_name(self.name.encode("ascii"))
        if self.session is not None:
            tls.set_session(self.session)
        tls.set_connect_state()
        return tls

    def accepts(self, tls: Any) -> bool:
        """The handshake is done: is this whom we expect?"""
        if not self.spec.verify:
            return True
        try:
            if self.is_address:
                verify_ip_address(tls, self.name)
            else:
                verify_hostname(tls, self.name)
        except (VerificationError, CertificateError):
            self.problem = f"its certificate is not for {self.name}"
            return False
        self.told = ""
        return True

    def failed(self, problem: str) -> None:
        """A handshake came to nothing."""
        self.session = None
        self.problem = problem or "connection closed during the handshake"

    def keep(self, tls: Any) -> None:
        self.session = tls.get_session()

    def take_problem(self, now: float) -> str:
        """What to tell the operator now; "" if there is nothing, or nothing new."""
        problem = self.problem
        self.problem = ""
        if problem == self.told and now - self.told_at < TOLD_AGAIN:
            return ""
        if problem:
            self.told = problem
            self.told_at = now
        return problem


def client_context(spec: BackendTlsSpec) -> Any:
    """What backends with the same settings share. Raises SSL.Error or ValueError."""
    context = hardened(SSL.TLS1_2_VERSION)
    if spec.client_certificate is not None:
        use(context, spec.client_certificate)
    if spec.verify:
        if spec.ca_pem:
            with as_file(spec.ca_pem) as path:
                context.load_verify_locations(path)
        else:
            context.set_default_verify_paths()
        context.set_verify(SSL.VERIFY_PEER)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
