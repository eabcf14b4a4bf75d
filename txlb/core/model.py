"""Frozen configuration: what every process agrees on.

Rules:

* A spec is a value: frozen, comparable, made of plain JSON types only, so a whole
  `Snapshot` crosses the link as JSON and reload is a difference of equal and
  unequal specs.
* A ``*Spec`` never changes; the live object of the same name (``Backend`` for
  ``BackendSpec``) carries what does: counters, connections, status.
* Seconds are floats, sizes are bytes, ``None`` means "no limit".
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """Bounds on what one client may ask for."""

    max_connections: int | None = None  # client connections per worker; None = from RLIMIT_NOFILE
    request_line: int = 8192
    head: int = 16384
    fields: int = 100
    body: int | None = None
    tls_handshakes: int = 1024  # under way at a time, per worker


@dataclass(frozen=True, slots=True)
class TimeoutsSpec:
    """Every deadline, in seconds."""

    connect: float = 1.0
    client_header: float = 10.0
    client_body: float = 30.0
    client_idle: float = 60.0
    send: float = 60.0
    backend_response: float = 60.0
    tunnel_idle: float = 3600.0
    tls_handshake: float = 5.0
    udp_idle: float = 60.0
    drain: float = 300.0
    shutdown: float = 30.0


@dataclass(frozen=True, slots=True)
class IdleConnectionsSpec:
    """How backend connections are kept for reuse (per worker)."""

    min_per_backend: int = 0
    max_per_backend: int = 1000
    idle_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class AdminTlsSpec:
    """TLS of the admin port: paths of PEM files."""

    chain: str
    key: str
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class AdminSpec:
    """The admin API: where it is, who may call it. Paths only: no secret is in a spec."""

    bind: str | None = "127.0.0.1:9900"
    token_file: str | None = None
    tls: AdminTlsSpec | None = None
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AccessLogSpec:
    """Where one line per exchange goes: ``-`` is standard output."""

    path: str = "-"
    format: str = "json"  # json | common | off


@dataclass(frozen=True, slots=True)
class HealthCheckSpec:
    """How a backend is checked."""

    type: str = "tcp"  # tcp | http | https | off, or package.module:Class
    interval: float = 5.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    suspect_after: float = 0.3
    path: str = ""  # http, https
    host: str = ""  # their Host field; "" = the backend's own
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)  # ranges that are good
    options: tuple[tuple[str, str | int | float | bool | None], ...] = ()  # of a class


@dataclass(frozen=True, slots=True)
class OwnCheckSpec:
    """What a backend says itself of how it is checked; None: as all are."""

    type: str | None = None  # None: http (or https) if there is a path, else tcp
    path: str | None = None
    interval: float | None = None
    timeout: float | None = None
    rise: int | None = None
    fall: int | None = None
    suspect_after: float | None = None
    host: str | None = None
    statuses: tuple[tuple[int, int], ...] | None = None
    options: tuple[tuple[str, str | int | float | bool | None], ...] | None = None

    def over(self, all_checks: HealthCheckSpec, secure: bool = False) -> HealthCheckSpec:
        """What holds for this backend where ``all_checks`` holds for all; ``secure``: it speaks TLS."""
        said = {name: value for name in self.__slots__ if (value := getattr(self, name)) is not None}
        if not said:
            return all_checks
        said.setdefault("type", "tcp" if self.path is None else "https" if secure else "http")
        if said["type"] in ("http", "https"):
            said.setdefault("path", "/")
        return replace(all_checks, **said)


@dataclass(frozen=True, slots=True)
class ErrorResponseSpec:
    """The answer txlb itself gives for one status code."""

    status: int
    content_type: str
    body: str


@dataclass(frozen=True, slots=True)
class UdpSpec:
    """Bounds on the flows of one UDP listener, per worker."""

    max_responses: int | None = (
        None  # answers per datagram of the client that end a flow; None = time ends it
    )
    max_flows: int = 65536
    max_flows_per_source: int = 1024


@dataclass(frozen=True, slots=True)
class OcspSpec:
    """The OCSP response that is stapled with a certificate: where it is, and what was read there."""

    path: str
    der: str = field(default="", repr=False)  # its bytes as Latin-1; "" = what is there does not fit
    begins: float = 0.0  # POSIX time
    ends: float = 0.0

    def is_current(self, now: float) -> bool:
        """Whether it may be shown at ``now`` (POSIX time)."""
        return self.begins <= now < self.ends


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """A certificate, its chain and its key: the paths, and what was read there.

    What is secret or long is left out of ``repr``: specs end up in logs and errors.
    """

    chain: str  # paths
    key: str
    chain_pem: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)  # secret: never shown, never logged
    names: tuple[str, ...] = ()  # lower case; "*.example.com" = one label
    kind: str = "rsa"  # rsa | ec | ed25519: the type of its key
    not_after: float = 0.0  # POSIX time
    must_staple: bool = False  # it asks clients to refuse it without an OCSP response
    client_ca: str | None = None  # path; None = as the listener says
    client_ca_pem: str = field(default="", repr=False)
    ocsp: OcspSpec | None = None  # None = nothing is stapled


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """How a listener ends TLS."""

    certificates: tuple[CertificateSpec, ...] = ()  # the first is for clients that name none of ours
    client_ca: str | None = None  # path; None = clients need no certificate
    client_ca_pem: str = field(default="", repr=False)
    client_auth: str = "required"  # required | optional
    min_version: str = "1.2"  # 1.2 | 1.3
    unknown_name: str = "default"  # default | refuse


@dataclass(frozen=True, slots=True)
class BackendTlsSpec:
    """How a backend is spoken to in TLS."""

    ca: str | None = None  # path; None = what the system trusts
    ca_pem: str = field(default="", repr=False)
    server_name: str | None = None  # None = the backend's host
    client_certificate: CertificateSpec | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True)
class ListenerSpec:
    """One place that accepts clients."""

    id: str
    bind: tuple[str, ...]
    protocol: str = "http"
    trusted: tuple[str, ...] = ()  # networks, CIDR notation
    forwarded: str = "replace"  # replace | append
    via: str = "chain"  # chain | always | off
    proxy_protocol: bool = False  # connections begin with a PROXY header
    udp: UdpSpec = field(default_factory=UdpSpec)
    steer: str = "connection"  # connection | client: what decides which worker gets a client
    tls: TlsSpec | None = None
    sni: bool = False  # tcp: routed by the server name of the ClientHello, relayed untouched


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One address that serves.

    ``host`` is what the operator wrote; ``address`` the IP that control resolved it
    to ("" while it does not resolve: the backend is then never chosen).
    """

    id: str
    host: str
    port: int
    weight: int = 1
    max_connections: int | None = None
    address: str = ""
    proxy_protocol: str | None = None  # v1 | v2: the header that connections begin with
    tls: BackendTlsSpec | None = None
    health_check: OwnCheckSpec = OwnCheckSpec()


@dataclass(frozen=True, slots=True)
class AlgorithmSpec:
    """A name from CONTRACTS §2 (lower case) or a dotted path, and its options."""

    name: str = "round_robin"
    options: tuple[tuple[str, Any], ...] = ()  # JSON values


@dataclass(frozen=True, slots=True)
class RetriesSpec:
    """How often a request of a rule may be tried again."""

    max: int = 2  # tries after the first, of one request
    budget: float = 0.2  # share of first attempts
    window: float = 10.0
    min_per_second: int = 10


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """Which exchanges go to which backends, chosen how."""

    id: str
    backends: tuple[str, ...]
    listeners: tuple[str, ...] | None = None  # None = every http listener
    host: str | None = None  # lower case; "*.example.com" = any depth below
    path_prefix: str | None = None  # whole segments, raw bytes as latin-1
    algorithm: AlgorithmSpec = field(default_factory=AlgorithmSpec)
    retries: RetriesSpec = field(default_factory=RetriesSpec)
    panic_threshold: float = 0.0  # share of eligible backends; 0.0 = no panic
    sticky: str | None = None  # name of the affinity cookie; None = clients do not stay with their backend


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One whole validated configuration; ``generation`` orders them."""

    generation: int = 0
    node_id: str = ""
    workers: int | None = None  # None = one per core; 0 = inside the control process
    admin: AdminSpec = field(default_factory=AdminSpec)
    admin_allowed_backends: tuple[str, ...] = ()  # networks, CIDR notation
    metrics_bind: str | None = None
    store: str | None = None  # path of the SQLite file; None = memory
    secret_file: str | None = None
    secret: str = field(default="", repr=False)  # key of affinity cookies, hex; never shown, never logged
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    timeouts: TimeoutsSpec = field(default_factory=TimeoutsSpec)
    idle_connections: IdleConnectionsSpec = field(default_factory=IdleConnectionsSpec)
    access_log: AccessLogSpec = field(default_factory=AccessLogSpec)
    health_check: HealthCheckSpec = field(default_factory=HealthCheckSpec)  # of all backends
    health_check_concurrency: int = 4096
    listeners: tuple[ListenerSpec, ...] = ()
    backends: tuple[BackendSpec, ...] = ()
    rules: tuple[RuleSpec, ...] = ()
    error_responses: tuple[ErrorResponseSpec, ...] = ()
