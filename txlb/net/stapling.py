"""What one TLS context staples: the OCSP response of the certificate that a client is shown.

Rules:

* OpenSSL asks the context that the server name led to, after it has chosen the certificate, and only for a
  client that asked for its status: the others cost nothing.
* A response is shown as long as it holds by ``clock`` (POSIX time); then the handshake goes on without.
* Another response for the same certificate needs no other context: sessions can still be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from OpenSSL import crypto

if TYPE_CHECKING:
    from txlb.core.model import CertificateSpec, OcspSpec

KINDS: Final[dict[int, str]] = {crypto.TYPE_RSA: "rsa", crypto.TYPE_EC: "ec"}  # the third is ed25519


class Response:
    """One OCSP response."""

    spec: OcspSpec
    data: bytes

    def __init__(self, spec: OcspSpec) -> None:
        self.spec = spec
        self.data = spec.der.encode("latin-1")


class Stapling:
    """The responses of one context's certificates, of which each has a key of another type."""

    responses: dict[str, Response]  # by that type, as in `CertificateSpec.kind`
    sole: str  # the type of the only certificate; "" = there are several
    clock: Callable[[], float]

    def __init__(self, certificates: Sequence[CertificateSpec], clock: Callable[[], float]) -> None:
        self.sole = certificates[0].kind if len(certificates) == 1 else ""
        self.clock = clock
        self.responses = {}
        self.renew(certificates)

    def renew(self, certificates: Sequence[CertificateSpec]) -> None:
        """Other responses for the same ``certificates``."""
        self.responses = {one.kind: Response(one.ocsp) for one in certificates if one.ocsp is not None}

    def response(self, tls: Any, data: Any) -> bytes:
        """For the client of ``tls``; b"" = none. Raising here would end its handshake."""
        kind = self.sole
        if not kind:
            shown = tls.get_certificate()
            if shown is None:
                return b""
            kind = KINDS.get(shown.get_pubkey().type(), "ed25519")
        found = self.responses.get(kind)
        if found is None or not found.spec.is_current(self.clock()):
            return b""
        return found.data
