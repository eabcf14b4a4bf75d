"""The files of TLS, read again while txlb runs.

Rules:

* What was read before stays if nothing changed, down to the object.
* A certificate, a key or a CA that is broken or does not fit is a ValueError, and holds up all of its
  listener.
* An OCSP response that does not fit is told and holds up nothing: the one before stays with its certificate,
  and a new certificate comes into force without. Only if that demands a response, the one before it stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from txlb.config.certificates import certificate_of, certificates_of, response_of
from txlb.core.model import BackendTlsSpec, CertificateSpec, OcspSpec, TlsSpec


def reread_listener(spec: TlsSpec, read: Callable[[str], str], tell: Callable[[str], None]) -> TlsSpec:
    """``spec`` as its files say now; itself if they say the same. Raises ValueError.

    ``tell`` takes what is wrong with responses.
    """
    certificates = tuple(_reread_with_response(one, read, tell) for one in spec.certificates)
    pem = _reread_authorities(spec.client_ca, spec.client_ca_pem, read)
    if certificates == spec.certificates and pem == spec.client_ca_pem:
        return spec
    return replace(spec, certificates=certificates, client_ca_pem=pem)


def reread_backend(spec: BackendTlsSpec, read: Callable[[str], str]) -> BackendTlsSpec:
    """The same for a backend."""
    pem = _reread_authorities(spec.ca, spec.ca_pem, read)
    mine = None if spec.client_certificate is None else _reread(spec.client_certificate, read)
    if pem == spec.ca_pem and mine == spec.client_certificate:
        return spec
    return BackendTlsSpec(spec.ca, pem, spec.server_name, mine, spec.verify)


def _reread(spec: CertificateSpec, read: Callable[[str], str]) -> CertificateSpec:
    chain_pem, key_pem = read(spec.chain), read(spec.key)
    fresh = spec
    if chain_pem != spec.chain_pem or key_pem != spec.key_pem:
        fresh = certificate_of(spec.chain, spec.key, chain_pem, key_pem)
    pem = _reread_authorities(spec.client_ca, spec.client_ca_pem, read)
    return replace(fresh, client_ca=spec.client_ca, client_ca_pem=pem, ocsp=spec.ocsp)


def _reread_with_response(
    spec: CertificateSpec, read: Callable[[str], str], tell: Callable[[str], None]
) -> CertificateSpec:
    fresh = _reread(spec, read)
    known = spec.ocsp
    if known is None:
        return fresh
    renewed = fresh.chain_pem != spec.chain_pem
    try:
        text = read(known.path)
        if renewed or text != known.der:
            return replace(fresh, ocsp=response_of(fresh, known.path, text))
        return fresh
    except ValueError as error:
        if renewed and fresh.must_staple:
            tell(f"{error}; {spec.chain} demands one, and what was read before stays in force")
            return replace(spec, client_ca_pem=fresh.client_ca_pem)
        if renewed or not known.der:
            tell(f"{error}; nothing is stapled")
            return replace(fresh, ocsp=OcspSpec(known.path))
        tell(f"{error}; what was read before stays in force")
        return fresh


def _reread_authorities(file: str | None, known: str, read: Callable[[str], str]) -> str:
    if file is None:
        return ""
    text = read(file)
    if text != known:
        certificates_of(text, file)
    return text
