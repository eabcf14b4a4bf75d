"""OCSP responses to staple: checked, so that no client is shown one that it would refuse.

Rules:

* A response (RFC 6960, DER) is successful and says that the first certificate of the chain is good: it has
  its serial number, and its issuer's name and key, hashed as the response chose.
* With the issuer in the chain its signature counts, too: the issuer's, or that of a certificate in the
  response which the issuer made for this purpose (RFC 6960, 4.2.2.2). Without, nobody here knows the key.
* It says until when it holds (nextUpdate): for ever is too long. Before and after its time it is no mistake,
  but it is not shown, and a warning. The responder's certificate may end earlier, and ends it.
* Every complaint names the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from txlb.core.model import CertificateSpec, OcspSpec

HOUR = 3600.0
LATE = 0.25  # the share of its time at whose beginning a successor should have been there
PROBLEMS = {
    ocsp.OCSPCertStatus.REVOKED: "says that {chain} is revoked",
    ocsp.OCSPCertStatus.UNKNOWN: "says that the responder does not know {chain}",
}


def ocsp_of(path: str, text: str, chain: str, certificates: Sequence[x509.Certificate]) -> OcspSpec:
    """The spec of what was read at ``path`` (Latin-1), for the first of ``certificates``, which are those in
    the file ``chain``. Raises ValueError."""
    try:
        response = ocsp.load_der_ocsp_response(text.encode("latin-1"))
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            said = response.response_status.name.lower().replace("_", " ")
            raise Unfit(f"is a responder's refusal: {said}")
        leaf = certificates[0]
        issuer = _issuer(leaf, certificates)
        single = next((one for one in response.responses if _is_about(one, leaf, issuer)), None)
        if single is None:
            raise Unfit(f"is for another certificate than the first one in {chain}")
        if single.certificate_status in PROBLEMS:
            raise Unfit(PROBLEMS[single.certificate_status].format(chain=chain))
        if single.next_update_utc is None:
            raise Unfit("does not say until when it holds")
        begins, ends = single.this_update_utc, single.next_update_utc
        if issuer is not None:
            signer = _signer(response, issuer)
            if signer is None:
                raise Unfit(f"is not signed by the issuer of {chain}, or by a responder of its")
            if signer != issuer:
                begins, ends = max(begins, signer.not_valid_before_utc), min(ends, signer.not_valid_after_utc)
    except Unfit as why:
        raise ValueError(f"{path} {why}") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no OCSP response, or a broken one (DER is expected)") from None
    return OcspSpec(path, text, begins.timestamp(), ends.timestamp())


class Unfit(Exception):
    """A response that can be read, but not be used."""


def must_staple(leaf: x509.Certificate) -> bool:
    """It asks clients to refuse it unless a response comes along (RFC 7633)."""
    try:
        features = leaf.extensions.get_extension_for_class(x509.TLSFeature).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return x509.TLSFeatureType.status_request in features


def stapling_warning(one: CertificateSpec, now: float) -> str:
    """What to say about what a listener staples with a certificate; "" = nothing."""
    found = one.ocsp
    if found is None:
        return f"{one.chain} demands OCSP stapling: clients refuse it without ocsp" if one.must_staple else ""
    if found.is_current(now):
        left = found.ends - now
        if left < LATE * (found.ends - found.begins):
            return f"{found.path} holds for {left / HOUR:.1f} hours more: it is time for a new response"
        return ""
    if not found.der:
        why = f"{found.path} does not fit {one.chain}"
    elif now < found.begins:
        why = f"{found.path} begins to hold in {(found.begins - now) / HOUR:.1f} hours"
    else:
        why = f"{found.path} expired {(now - found.ends) / HOUR:.1f} hours ago"
    refused = f", and clients refuse {one.chain}, which demands it" if one.must_staple else ""
    return f"{why}: nothing is stapled{refused}"


def _issuer(leaf: x509.Certificate, certificates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Whoever signed ``leaf``, if among ``certificates`` (itself, if it did)."""
    return next((one for one in certificates if _is_signed(leaf, one)), None)


def _is_signed(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_about(
    single: ocsp.OCSPSingleResponse, leaf: x509.Certificate, issuer: x509.Certificate | None
) -> bool:
    # The builder hashes the issuer's name as ``leaf`` has it, and the key of whom it is given.
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer or leaf, single.hash_algorithm).build()
    return (
        single.serial_number == asked.serial_number
        and single.issuer_name_hash == asked.issuer_name_hash
        and (issuer is None or single.issuer_key_hash == asked.issuer_key_hash)
    )


def _signer(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> x509.Certificate | None:
    """Whose signature it is: whom the response names, if the issuer lets it sign."""
    for one in (issuer, *response.certificates):
        if _is_named(one, response) and (one == issuer or _may_sign(one, issuer)):
            return one if _verifies(one, response) else None
    return None


def _is_named(one: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    if response.responder_name is not None:
        return response.responder_name == one.subject
    key = x509.SubjectKeyIdentifier.from_public_key(one.public_key())
    return response.responder_key_hash == key.digest


def _may_sign(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage and _is_signed(one, issuer)


def _verifies(one: x509.Certificate, response: ocsp.OCSPResponse) -> bool:
    key, how = one.public_key(), response.signature_hash_algorithm
    signature, signed = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and how is not None:
            key.verify(signature, signed, padding.PKCS1v15(), how)
        elif isinstance(key, ec.EllipticCurvePublicKey) and how is not None:
            key.verify(signature, signed, ec.ECDSA(how))
        elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, signed)
        else:
            return False
    except InvalidSignature:
        return False
    return True
