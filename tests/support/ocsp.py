"""OCSP responses made for one test: of an `Authority`, of its responders, and of nobody's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from support.tls import Authority

DER = serialization.Encoding.DER
PEM = serialization.Encoding.PEM
HOUR = timedelta(hours=1)
GOOD = ocsp.OCSPCertStatus.GOOD


class Responder:
    """Signs responses; of ``authority`` itself unless another certificate and key are given."""

    def __init__(self, authority: Authority, mine: x509.Certificate | None = None, key: Any = None) -> None:
        self.issuer = x509.load_pem_x509_certificate(authority.ca.cert_pem.bytes())
        self.mine = mine or self.issuer
        self.key = key or key_of(authority)

    def response(
        self,
        pair: dict[str, str],
        status: ocsp.OCSPCertStatus = GOOD,
        begins: timedelta = -HOUR,
        ends: timedelta | None = 24 * HOUR,
        how: hashes.HashAlgorithm | None = None,
        named: ocsp.OCSPResponderEncoding = ocsp.OCSPResponderEncoding.HASH,
    ) -> bytes:
        """About the first certificate of ``pair["chain"]``; times from now, to the second."""
        now = datetime.now(UTC).replace(microsecond=0)
        revoked = now - HOUR if status is ocsp.OCSPCertStatus.REVOKED else None
        until = None if ends is None else now + ends
        builder = ocsp.OCSPResponseBuilder().add_response(
            first_of(pair), self.issuer, how or hashes.SHA1(), status, now + begins, until, revoked, None
        )
        builder = builder.responder_id(named, self.mine)
        if self.mine != self.issuer:
            builder = builder.certificates([self.mine])
        return builder.sign(self.key, hashes.SHA256()).public_bytes(DER)


def tampered(data: bytes) -> bytes:
    """A response without certificates, with another signature."""
    return data[:-1] + bytes([data[-1] ^ 1])


def delegate(
    authority: Authority,
    may_sign: bool = True,
    begins: timedelta = -48 * HOUR,
    ends: timedelta = 24 * HOUR,
) -> Responder:
    """A responder with a certificate of its own from ``authority``."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = blank("responder", key, authority, begins, ends)
    usage = ExtendedKeyUsageOID.OCSP_SIGNING if may_sign else ExtendedKeyUsageOID.SERVER_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return Responder(authority, builder.sign(key_of(authority), hashes.SHA256()), key)


def demanding(authority: Authority, name: str, label: str) -> dict[str, str]:
    """The files of a certificate that demands stapling; its issuer is in the chain."""
    feature = x509.TLSFeature([x509.TLSFeatureType.status_request])
    return signed(authority, name, ec.generate_private_key(ec.SECP256R1()), label, feature)


def signed(
    authority: Authority, name: str, key: Any, label: str, *more: x509.ExtensionType
) -> dict[str, str]:
    """The files of a certificate for ``key`` with ``more`` extensions; its issuer is in the chain."""
    builder = blank(name, key, authority, -48 * HOUR, 24 * 30 * HOUR)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    chain, secret = authority.folder / f"{label}.pem", authority.folder / f"{label}.key"
    chain.write_bytes(builder.sign(key_of(authority), hashes.SHA256()).public_bytes(PEM))
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return with_issuer({"chain": str(chain), "key": str(secret)}, authority)


def blank(
    name: str, key: Any, authority: Authority, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC).replace(microsecond=0)
    return x509.CertificateBuilder(
        x509.load_pem_x509_certificate(authority.ca.cert_pem.bytes()).subject,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
        key.public_key(),
        x509.random_serial_number(),
        now + begins,
        now + ends,
    )


def key_of(authority: Authority) -> Any:
    return serialization.load_pem_private_key(authority.ca.private_key_pem.bytes(), None)


def first_of(pair: dict[str, str]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(pair["chain"]).read_bytes())


def with_issuer(pair: dict[str, str], authority: Authority) -> dict[str, str]:
    """``pair``, once the issuer is in its chain file, as it mostly is."""
    with open(pair["chain"], "ab") as file:
        file.write(Path(authority.path).read_bytes())
    return pair


def stapled(pair: dict[str, str], authority: Authority, data: bytes | None = None) -> dict[str, str]:
    """``pair`` with a response beside it: a good one unless it is given."""
    path = Path(pair["chain"]).with_suffix(".ocsp")
    path.write_bytes(Responder(authority).response(pair) if data is None else data)
    return {**pair, "ocsp": str(path)}
