"""The sections that there is one of: the load balancer itself, and what holds for all traffic."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from txlb.config import kinds
from txlb.config.kinds import Duration, Network, choice, nullable, size, whole
from txlb.config.section import REQUIRED, Section, key


class Node(Section):
    """This load balancer among others."""

    id: Annotated[str | None, nullable(kinds.ID)] = key(
        None, "Name of this load balancer in `/health` (`load_balancer_id`); `null` = the host name.", "lb-1"
    )


class Certificate(Section):
    """A certificate and its key, PEM files."""

    chain: Annotated[str, kinds.FILE] = key(
        REQUIRED, "The certificate, then those that lead to its root.", "admin.pem"
    )
    key: Annotated[str, kinds.FILE] = key(REQUIRED, "Its private key, without passphrase.", "admin.key")


class AdminTls(Section):
    """TLS on the admin port. Files are read at start and on every reload."""

    certificates: Annotated[tuple[Certificate, ...], Field(min_length=1, max_length=1)] = key(
        REQUIRED, "One certificate."
    )
    min_version: Annotated[str, choice("1.2", "1.3")] = key("1.2", "Lowest version of TLS.", "1.3")


class Admin(Section):
    """The admin port: the HTTP API that shows and steers this load balancer.

    Without `token_file` everybody who can connect may do everything, so it listens only on the loopback
    or a UNIX socket then. Elsewhere it needs `token_file` and `tls`. Fixed until restart, but for
    `allowed_backends` and what is in the files.
    """

    bind: Annotated[str | None, nullable(kinds.ADMIN_BIND)] = key(
        "127.0.0.1:9900",
        "Where the admin port listens, `host:port` or `unix:/path` (mode 0660); `null` = nowhere.",
        "unix:/run/txlb/admin.sock",
    )
    allowed_backends: tuple[Network, ...] = key(
        [],
        "Networks whose addresses are accepted as backends over the API although they are link-local,"
        " multicast, unspecified or broadcast, or belong to a listener or the admin port. The file may name"
        " any address.",
        ["169.254.10.0/24"],
    )
    token_file: Annotated[str | None, nullable(kinds.FILE)] = key(
        None,
        "File with hashes of the tokens that callers must show, a line each: `LABEL read|write sha256:HEX`."
        " Read again on every reload. Relative to the configuration file.",
        "tokens",
    )
    tls: AdminTls | None = key(None, "Certificate of the admin port.")
    allowed_hosts: Annotated[tuple[Annotated[str, kinds.HOST], ...], Field(max_length=100)] = key(
        [],
        "Host names that requests may carry, beside the loopback's and the address itself.",
        ["lb.internal"],
    )


class Metrics(Section):
    """A listener for scrapers alone. Fixed until restart."""

    bind: Annotated[str | None, nullable(kinds.ADMIN_BIND)] = key(
        None,
        "Where `/metrics` and `/health` alone are served, to everybody who can connect; `null` = nowhere.",
        "10.0.0.5:9901",
    )


class Limits(Section):
    """What one client may ask for. Whoever asks for more gets the error named here."""

    max_connections: Annotated[int | None, nullable(whole(1, 10_000_000, "connections"), "auto")] = key(
        "auto",
        "Client connections per worker; more wait in the kernel's queue. `auto` = what the limit on open"
        " files allows, with a reserve.",
        50000,
    )
    request_line: Annotated[int, size(64, 2**17)] = key(
        "8KiB", "Longest request line; past it: 414.", "16KiB"
    )
    head: Annotated[int, size(256, 2**18)] = key(
        "16KiB", "Longest head, request line included; past it: 431.", "32KiB"
    )
    fields: Annotated[int, whole(1, 10_000, "fields")] = key(
        100, "Most header fields of a request; past it: 431.", 200
    )
    body: Annotated[int | None, nullable(size(0, 2**50))] = key(
        None, "Longest request body; past it: 413. `null` = any length, as bodies are streamed.", "10MiB"
    )
    tls_handshakes: Annotated[int, whole(1, 1_000_000, "handshakes")] = key(
        1024, "TLS handshakes under way at a time, per worker; past it the oldest gives way.", 4096
    )


class Timeouts(Section):
    """Every deadline. None can be switched off; the longest is `30d`."""

    connect: Duration = key(
        "1s", "For a connection to a backend to open; past it another backend, or 504.", "3s"
    )
    client_header: Duration = key(
        "10s",
        "For a request head to arrive, from its first byte; past it: 408. Also for that first byte to come on"
        " a new connection; past it, it is closed.",
        "5s",
    )
    client_body: Duration = key("30s", "Between two pieces of a request body; past it: 408.", "1m")
    client_idle: Duration = key("60s", "A client connection may be idle between two requests.", "15s")
    send: Duration = key(
        "60s", "A client or backend may take no bytes at all while there are some for it.", "30s"
    )
    backend_response: Duration = key(
        "60s", "For an answer to begin, and between two pieces of it; before it begins: 504.", "2m"
    )
    tunnel_idle: Duration = key("1h", "A tunnel (WebSocket) may carry nothing in either direction.", "10m")
    tls_handshake: Duration = key("5s", "For a client's TLS handshake, from its connection to its end.", "3s")
    udp_idle: Duration = key(
        "60s", "A UDP flow may carry nothing in either direction; past it, it ends.", "10s"
    )
    drain: Duration = key("300s", "A draining backend keeps its connections at most this long.", "10m")
    shutdown: Duration = key("30s", "For requests in flight to end when txlb is told to stop.", "5m")


class IdleConnections(Section):
    """Connections to backends that are kept open for the next request, per worker."""

    min_per_backend: Annotated[int, whole(0, 100_000, "connections")] = key(
        0, "Kept open to each backend that had traffic in the last `idle_timeout`.", 4
    )
    max_per_backend: Annotated[int, whole(0, 1_000_000, "connections")] = key(
        1000, "At most so many wait for each backend; 0 = a new connection for every request.", 64
    )
    idle_timeout: Duration = key(
        "60s", "One that waited this long is closed. Keep it below the backends' own keep-alive time.", "30s"
    )


class AccessLog(Section):
    """One line for every request."""

    path: Annotated[str, kinds.FILE] = key(
        "-",
        "The file, reopened on SIGHUP; `-` = standard output. Relative to the configuration file.",
        "access.log",
    )
    format: Annotated[str, choice("json", "common", "off")] = key(
        "json", "JSON lines, the format that Apache and nginx call common, or no log.", "common"
    )


class HealthCheck(Section):
    """How backends are checked; a backend's own `health_check` overrides it. See [health](health.md)."""

    interval: Duration = key("5s", "From the start of a check to the start of the next.", "2s")
    timeout: Duration = key("2s", "For a check to end, connecting included.", "500ms")
    rise: Annotated[int, whole(1, 1000, "checks")] = key(
        2, "So many good checks in a row make a backend HEALTHY again.", 3
    )
    fall: Annotated[int, whole(1, 1000, "checks")] = key(
        3, "So many failed checks in a row make a backend UNHEALTHY.", 2
    )
    suspect_after: Duration = key(
        "300ms", "A request without an answer for so long, while other backends answer, causes a check.", "1s"
    )
    concurrency: Annotated[int, whole(1, 100_000, "checks")] = key(
        4096,
        "Most checks under way at a time, over all backends; and never more than half of the limit on open"
        " files. What is due beyond that waits.",
        1000,
    )


class ErrorResponse(Section):
    """What one error answer of txlb itself says; exactly one of `body` and `file`."""

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [{"required": ["body"]}, {"required": ["file"]}]},
    )

    content_type: Annotated[str, kinds.CONTENT_TYPE] = key(
        "text/plain; charset=utf-8", "Content-Type of the answer.", "text/html; charset=utf-8"
    )
    body: Annotated[str | None, nullable(kinds.BODY)] = key(
        None, "The text itself, at most 64KiB.", "Back soon."
    )
    file: Annotated[str | None, nullable(kinds.FILE)] = key(
        None, "A UTF-8 file with the text, read at load. Relative to the configuration file.", "503.html"
    )
