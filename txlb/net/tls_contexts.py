"""OpenSSL contexts: what a listener shows its clients, and what is shown to and asked of a backend.

Rules:

* TLS 1.2 with forward secrecy and authenticated ciphers only, TLS 1.3, no renegotiation, no compression,
  buffers released while a connection is idle.
* By server name (SNI): the exact name, else ``*.`` and one label; then, for unknown names, the first
  certificate or nobody. Certificates with the same names and keys of different types share a context:
  OpenSSL takes the one that suits the client.
* A *realm* is a set of names with the same rule about client certificates. The callback sets the rule on
  the connection, for switching contexts does not. Sessions are resumed in one realm only, the *home*
  realm: elsewhere none are offered, and one that is shown there all the same ends the handshake, since
  OpenSSL looks sessions up before it asks for the name.
* Tickets live in their context: another generation of a listener's certificates knows none of the old ones.
* What is stapled (`txlb.net.stapling`) belongs to a context, and is exchanged in it.
* An ALPN offer is answered with ``http/1.1`` where that is spoken, else not at all; it ends no handshake.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from txlb.core.model import CertificateSpec, OcspSpec, TlsSpec
from txlb.net.openssl import restrict_groups
from txlb.net.stapling import Stapling
from txlb.net.tls import Handshake

CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
# Of the key exchange, on listeners: Mozilla's "intermediate", the hybrid where OpenSSL knows it (3.5 on).
GROUPS: Final = (b"X25519MLKEM768:X25519:P-256:P-384", b"X25519:P-256:P-384")
VERSIONS: Final[dict[str, int]] = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
HTTP: Final = b"http/1.1"
TICKET_LIFETIME: Final = 7200


class Realm:
    """Names under one rule about client certificates."""

    number: int
    ca: str  # "" = nobody is asked for one
    required: bool
    key: str  # the same for the same rule, whatever the generation; "" = nobody is asked
    verify: int

    def __init__(self, number: int, ca: str, required: bool) -> None:
        self.number = number
        self.ca = ca
        self.required = required
        self.key = hashlib.sha256(f"{required}{ca}".encode()).hexdigest()[:16] if ca else ""
        self.verify = SSL.VERIFY_NONE
        if ca:
            self.verify = SSL.VERIFY_PEER | (SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else 0)


class ServerTls:
    """TLS of one listener."""

    spec: TlsSpec
    realms: list[Realm]
    home: int
    base: Any
    names: dict[str, tuple[Any, int]]  # context and realm by server name
    default: tuple[Any, int]
    staplings: list[tuple[tuple[int, ...], Stapling]]  # and the places of their certificates in the spec
    clock: Callable[[], float]

    def __init__(self, spec: TlsSpec, label: str, http: bool, clock: Callable[[], float] = time.time) -> None:
        """``label`` keeps sessions apart from those of other listeners. Raises SSL.Error or ValueError."""
        self.spec = spec
        self.staplings = []
        self.clock = clock
        self.realms = []
        realm_of = [self._realm(one) for one in spec.certificates]
        public = [realm.number for realm in self.realms if not realm.ca]
        self.home = public[0] if public else realm_of[0]
        by_name: dict[str, list[int]] = {}
        for index, certificate in enumerate(spec.certificates):
            for name in certificate.names:
                group = by_name.setdefault(name, [])
                if certificate.kind not in [spec.certificates[one].kind for one in group]:
                    group.append(index)
        contexts: dict[tuple[int, ...], Any] = {}
        first = spec.certificates[0]
        default = tuple(by_name[first.names[0]]) if first.names and by_name[first.names[0]][0] == 0 else (0,)
        for group_of in [default, *map(tuple, by_name.values())]:
            if group_of not in contexts:
                realm = self.realms[realm_of[group_of[0]]]
                members = [spec.certificates[one] for one in group_of]
                contexts[group_of] = self._context(members, realm, label, http)
                self._staple(contexts[group_of], group_of, members)
        self.names = {name: (contexts[tuple(group)], realm_of[group[0]]) for name, group in by_name.items()}
        self.default = (contexts[default], realm_of[0])
        self.base = contexts[default]
        self.base.set_tlsext_servername_callback(self._chosen)
        self.nobody = SSL.Context(SSL.TLS_METHOD)

    def takes(self, spec: TlsSpec) -> bool:
        """Go on by ``spec`` if it differs in the contents of responses at most; False: it needs another."""
        if spec == self.spec:
            return True
        if _without_responses(spec) != _without_responses(self.spec):
            return False
        self.spec = spec
        for places, stapling in self.staplings:
            stapling.renew([spec.certificates[one] for one in places])
        return True

    def connection(self, sock: Any) -> Any:
        """An OpenSSL connection for a client that was accepted."""
        tls = SSL.Connection(self.base, sock)
        tls.set_accept_state()
        return tls

    def realm_of(self, host: str) -> Realm:
        """The realm that a name (a request's host) belongs to."""
        found = self._find(host)
        return self.realms[self.default[1] if found is None else found[1]]

    def asks_clients(self) -> bool:
        """Some clients are asked for a certificate."""
        return any(realm.ca for realm in self.realms)

    def _realm(self, certificate: CertificateSpec) -> int:
        ca = certificate.client_ca_pem or self.spec.client_ca_pem
        for realm in self.realms:
            if realm.ca == ca:
                return realm.number
        self.realms.append(Realm(len(self.realms), ca, self.spec.client_auth == "required"))
        return len(self.realms) - 1

    def _context(self, certificates: Sequence[CertificateSpec], realm: Realm, label: str, http: bool) -> Any:
        context = hardened(VERSIONS[self.spec.min_version])
        restrict_groups(context, GROUPS)  # where that cannot be, OpenSSL's own hold
        for one in certificates:
            use(context, one)
        context.set_session_id(hashlib.sha256(f"{label}\0{realm.number}".encode()).digest())
        # Tickets resume without it, and it would grow with every client that takes none.
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_timeout(TICKET_LIFETIME)
        # FIN without close_notify is common among clients, and a half-close: without this OpenSSL would not
        # let us send the answer.
        context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)
        context.set_alpn_select_callback(_http_or_none if http else _none)
        if realm.ca:
            with as_file(realm.ca) as path:
                context.load_verify_locations(path)
                context.load_client_ca(path.encode())
            context.set_verify(realm.verify)
        return context

    def _staple(self, context: Any, places: tuple[int, ...], certificates: Sequence[CertificateSpec]) -> None:
        if any(one.ocsp is not None for one in certificates):
            stapling = Stapling(certificates, self.clock)
            self.staplings.append((places, stapling))
            context.set_ocsp_server_callback(stapling.response)

    def _find(self, name: str) -> tuple[Any, int] | None:
        found = self.names.get(name)
        if found is None:
            dot = name.find(".")
            if dot > 0:
                found = self.names.get("*" + name[dot:])
        return found

    def _chosen(self, tls: Any) -> None:
        """OpenSSL has read a ClientHello. Raising here would print a traceback."""
        handshake: Handshake | None = tls.get_app_data()
        asked: bytes | None = tls.get_servername()
        found = None
        if asked is not None:
            found = self._find(asked.decode("latin-1").lower().rstrip("."))
        if found is None:
            if self.spec.unknown_name == "refuse":
                if handshake is not None:
                    handshake.refused = "unknown server name"
                tls.set_context(self.nobody)
                return
            found = self.default
        context, number = found
        if handshake is not None:
            handshake.realm = number
        if context is not self.base:
            tls.set_context(context)
        if len(self.realms) > 1:
            tls.set_verify(self.realms[number].verify)
            if number != self.home:
                if _has_session(tls) and handshake is not None:
                    handshake.refused = "session of another name"
                tls.set_options(SSL.OP_NO_TICKET)


def hardened(version: int) -> Any:
    """A context without certificates."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE | SSL.OP_NO_COMPRESSION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    return context


def use(context: Any, certificate: CertificateSpec) -> None:
    """Have ``context`` show ``certificate`` with its own chain, beside those it has."""
    with as_file(certificate.chain_pem) as path:
        context.use_certificate_chain_file(path)
    context.use_privatekey(load_pem_private_key(certificate.key_pem.encode("latin-1"), None))
    context.check_privatekey()


@contextmanager
def as_file(text: str) -> Iterator[str]:
    """A path under which OpenSSL finds ``text``, which is nowhere on a disk."""
    descriptor = os.memfd_create("txlb-pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, text.encode("latin-1"))
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _without_responses(spec: TlsSpec) -> TlsSpec:
    certificates = [
        one if one.ocsp is None else replace(one, ocsp=OcspSpec(one.ocsp.path)) for one in spec.certificates
    ]
    return replace(spec, certificates=tuple(certificates))


def _has_session(tls: Any) -> bool:
    """In the middle of a handshake: it takes up an earlier session."""
    try:
        return bool(tls.master_key())
    except SSL.Error:
        return False


def _http_or_none(tls: Any, offered: list[bytes]) -> Any:
    return HTTP if HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def _none(tls: Any, offered: list[bytes]) -> Any:
    return SSL.NO_OVERLAPPING_PROTOCOLS
