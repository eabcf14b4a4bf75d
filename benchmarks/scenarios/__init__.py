"""The scenarios by name. Each is a function of a ``Bench`` that gives its tables."""

from __future__ import annotations

from collections.abc import Callable

from ..bench import Bench
from ..report import Table
from .checked_traffic import checked_traffic
from .closed_loop import http_close, http_keepalive, http_upload
from .datagrams import udp_dns, udp_echo
from .failures import failures
from .health_checks import health_checks
from .idle_memory import idle_memory
from .latency import http_latency
from .loop_stalls import loop_stalls
from .many_backends import http_many_backends
from .slow_clients import slow_clients
from .streams import tcp_bulk, tcp_close, tcp_keepalive
from .tls import https_bulk, https_handshake, https_keepalive

SCENARIOS: dict[str, Callable[[Bench], list[Table]]] = {
    "http-keepalive": http_keepalive,
    "http-close": http_close,
    "http-many-backends": http_many_backends,
    "http-upload": http_upload,
    "http-latency": http_latency,
    "idle-memory": idle_memory,
    "slow-clients": slow_clients,
    "tcp-keepalive": tcp_keepalive,
    "tcp-close": tcp_close,
    "tcp-bulk": tcp_bulk,
    "udp-echo": udp_echo,
    "udp-dns": udp_dns,
    "https-keepalive": https_keepalive,
    "https-handshake": https_handshake,
    "https-bulk": https_bulk,
    "failures": failures,
    "health-checks": health_checks,
    "checked-traffic": checked_traffic,
    "loop-stalls": loop_stalls,
}
