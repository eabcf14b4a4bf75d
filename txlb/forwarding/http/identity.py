"""What backends are told of a client's TLS, from its certificate as `cryptography` knows it."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from txlb.core.http.identity import NO_IDENTITY, identity_fields
from txlb.forwarding.client import common_name

DER: Final[Any] = Encoding.DER


def identity_lines(realm: str, certificate: Any) -> bytes:
    """Field lines; none where nobody asks for certificates (``realm`` "")."""
    if certificate is None:
        return NO_IDENTITY if realm else b""
    subject = certificate.subject.rfc4514_string()
    digest = hashlib.sha256(certificate.public_bytes(DER)).hexdigest()
    return identity_fields(subject, common_name(certificate), certificate.serial_number, digest)
