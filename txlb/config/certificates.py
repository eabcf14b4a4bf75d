"""The files of TLS: read once a load, checked so that no worker ever meets a bad one.

Rules:

* Every complaint names the file; none shows what is in it. What is no plain file is not waited for: a pipe
  that nobody writes to would hold up every change.
* A key belongs to the first certificate of its chain, has no passphrase, and is one that OpenSSL accepts.
* What was read is kept in the spec, so that a worker needs no file, and a spec differs when a file does.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from txlb.config import problems
from txlb.config.files import read_file
from txlb.config.ocsp import must_staple, ocsp_of, stapling_warning
from txlb.config.problems import Finding
from txlb.config.tls import BackendTls, KeyPair, Tls
from txlb.core.model import BackendTlsSpec, CertificateSpec, OcspSpec, TlsSpec

MAX_SIZE = 1 << 20
DAY = 86400.0
SOON = 14 * DAY
MAX_NAMES = 10_000


class TlsFiles:
    """The files that one configuration names; ``errors`` and ``warnings`` say what is wrong with them."""

    def __init__(self, base: str | os.PathLike[str]) -> None:
        self._base = Path(base)
        self._read: dict[Path, str | ValueError] = {}
        self.errors: list[Finding] = []
        self.warnings: list[Finding] = []

    def listener(self, tls: Tls, path: problems.Path) -> TlsSpec:
        """What a listener's section names; see ``errors`` before you use it."""
        certificates = []
        for index, one in enumerate(tls.certificates):
            place: problems.Path = (*path, "certificates", index)
            spec = self.certificate(one, place)
            authorities, pem = self.authorities(one.client_ca, (*place, "client_ca"))
            if spec is not None:
                spec = replace(
                    spec,
                    client_ca=authorities,
                    client_ca_pem=pem,
                    ocsp=self.response(one.ocsp, spec, (*place, "ocsp")),
                )
                certificates.append(spec)
                warning = stapling_warning(spec, time.time())
                if warning:
                    self.warnings.append(Finding((*place, "chain" if one.ocsp is None else "ocsp"), warning))
        authorities, pem = self.authorities(tls.client_ca, (*path, "client_ca"))
        spec_of = TlsSpec(
            tuple(certificates), authorities, pem, tls.client_auth, tls.min_version, tls.unknown_name
        )
        if len(certificates) == len(tls.certificates):
            self._side_by_side(spec_of, path)
        return spec_of

    def backend(self, tls: BackendTls, path: problems.Path) -> BackendTlsSpec:
        """What a backend's section names."""
        authorities, pem = self.authorities(tls.ca, (*path, "ca"))
        mine = None
        if tls.client_certificate is not None:
            mine = self.certificate(tls.client_certificate, (*path, "client_certificate"))
        return BackendTlsSpec(authorities, pem, tls.server_name, mine, tls.verify)

    def certificate(self, pair: KeyPair, path: problems.Path) -> CertificateSpec | None:
        """A chain and its key."""
        chain, key = self._base / pair.chain, self._base / pair.key
        chain_pem = self._text(chain, (*path, "chain"))
        key_pem = self._text(key, (*path, "key"))
        if chain_pem is None or key_pem is None:
            return None
        try:
            spec = certificate_of(str(chain), str(key), chain_pem, key_pem)
        except KeyProblem as error:
            self.errors.append(Finding((*path, "key"), str(error)))
            return None
        except ValueError as error:
            self.errors.append(Finding((*path, "chain"), str(error)))
            return None
        warning = expiry_warning(spec, time.time())
        if warning:
            self.warnings.append(Finding((*path, "chain"), warning))
        if _is_public(key):
            self.warnings.append(Finding((*path, "key"), f"{key} can be read by every user of this machine"))
        return spec

    def authorities(self, name: str | None, path: problems.Path) -> tuple[str | None, str]:
        """A file of CA certificates: its whole path and its text."""
        if name is None:
            return None, ""
        file = self._base / name
        text = self._text(file, path)
        if text is None:
            return str(file), ""
        try:
            certificates_of(text, str(file))
        except ValueError as error:
            self.errors.append(Finding(path, str(error)))
        return str(file), text

    def response(self, name: str | None, spec: CertificateSpec, path: problems.Path) -> OcspSpec | None:
        """What is stapled with a certificate."""
        if name is None:
            return None
        file = self._base / name
        text = self._text(file, path)
        if text is None:
            return None
        try:
            return response_of(spec, str(file), text)
        except ValueError as error:
            self.errors.append(Finding(path, str(error)))
            return None

    def _side_by_side(self, spec: TlsSpec, path: problems.Path) -> None:
        """One name has one rule about clients, and one certificate of each type."""
        seen: dict[tuple[str, str], int] = {}
        ruled: dict[str, int] = {}
        for index, one in enumerate(spec.certificates):
            place: problems.Path = (*path, "certificates", index)
            for name in one.names:
                first = ruled.setdefault(name, index)
                if spec.certificates[first].client_ca_pem != one.client_ca_pem:
                    why = f"{name} is in certificates[{first}] too, with another client_ca"
                    self.errors.append(Finding((*place, "client_ca"), why))
                    break
                before = seen.setdefault((name, one.kind), index)
                if before != index:
                    why = f"{name} has a certificate of this type already, in use: certificates[{before}]"
                    self.warnings.append(Finding((*place, "chain"), why))
                    break

    def _text(self, file: Path, path: problems.Path) -> str | None:
        if file not in self._read:
            try:
                self._read[file] = read_text(file)
            except ValueError as error:
                self._read[file] = error
        text = self._read[file]
        if isinstance(text, ValueError):
            self.errors.append(Finding(path, str(text)))
            return None
        return text


class KeyProblem(ValueError):
    """The key, not the certificate."""


def read_text(file: Path) -> str:
    """The bytes of a file, each as the Latin-1 character. Raises ValueError."""
    return read_file(file, MAX_SIZE).decode("latin-1")


def certificates_of(text: str, file: str) -> list[x509.Certificate]:
    """The certificates in a PEM file. Raises ValueError."""
    try:
        return x509.load_pem_x509_certificates(text.encode("latin-1"))
    except ValueError:
        raise ValueError(f"{file} holds no certificate, or a broken one (PEM is expected)") from None


def certificate_of(chain: str, key: str, chain_pem: str, key_pem: str) -> CertificateSpec:
    """The spec of what was read at ``chain`` and ``key``. Raises KeyProblem or ValueError."""
    leaf = certificates_of(chain_pem, chain)[0]
    try:
        private = serialization.load_pem_private_key(key_pem.encode("latin-1"), None)
    except TypeError:
        raise KeyProblem(f"{key} is encrypted, and there is nobody to ask for its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyProblem(f"{key} holds no private key, or a broken one (PEM is expected)") from None
    kind = _kind(leaf, chain)
    if _spki(private.public_key()) != _spki(leaf.public_key()):
        raise KeyProblem(f"{key} is not the key of the first certificate in {chain}")
    context = SSL.Context(SSL.TLS_METHOD)
    try:
        context.use_certificate(leaf)
        context.use_privatekey(private)  # type: ignore[arg-type]
        context.check_privatekey()
    except SSL.Error as error:
        why = "; ".join(str(entry[2]) for entry in error.args[0]) or "no reason given"
        raise ValueError(f"{chain} is not accepted by OpenSSL: {why}") from None
    end = leaf.not_valid_after_utc.timestamp()
    return CertificateSpec(chain, key, chain_pem, key_pem, _names(leaf), kind, end, must_staple(leaf))


def response_of(spec: CertificateSpec, file: str, text: str) -> OcspSpec:
    """The spec of what was read at ``file``, for that certificate. Raises ValueError."""
    return ocsp_of(file, text, spec.chain, certificates_of(spec.chain_pem, spec.chain))


def expiry_warning(spec: CertificateSpec, now: float) -> str:
    """What to say about a certificate that ends soon; "" = nothing."""
    left = spec.not_after - now
    if left <= 0:
        return f"{spec.chain} expired {-left / DAY:.0f} days ago: clients refuse it"
    if left < SOON:
        return f"{spec.chain} expires in {left / DAY:.0f} days"
    return ""


def _kind(leaf: x509.Certificate, chain: str) -> str:
    try:
        public = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if isinstance(public, rsa.RSAPublicKey):
        return "rsa"
    if isinstance(public, ec.EllipticCurvePublicKey):
        return "ec"
    if isinstance(public, ed25519.Ed25519PublicKey):
        return "ed25519"
    raise ValueError(f"{chain} has a key of a type that is not supported: RSA, ECDSA and Ed25519 are")


def _spki(public: object) -> bytes:
    data: bytes = public.public_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return data


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    """DNS names, lower case; the common name only where there are none."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        found = extension.value.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        found = [str(one.value) for one in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return tuple(dict.fromkeys(name.lower().rstrip(".") for name in found[:MAX_NAMES]))


def _is_public(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & 0o004)
    except OSError:
        return False
