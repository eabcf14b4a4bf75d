"""The live object of one HTTP listener: its settings, its counters, its log.

Rules:

* One per listener and worker; exchanges under way see a reload at their next step.
* An exchange is counted once, when it ends: on the listener, on its rule, on its backend if
  that answered, in the (listener, rule, backend) cell, and in the log. All agree.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Final

from txlb.core.answers import Answers
from txlb.core.http.forward import ForwardPolicy
from txlb.core.http.head import FieldCache
from txlb.core.http.refusals import Refusals
from txlb.core.latency import bucket_of
from txlb.core.routing import RouteTable
from txlb.net.loop import Loop

if TYPE_CHECKING:
    from txlb.forwarding.access_log import AccessLog
    from txlb.forwarding.http.origins import Origins
    from txlb.forwarding.http.record import Record


CLIENT_GONE: Final = 499  # what an exchange without any answer counts as


class HttpSettings:
    """What connections and exchanges of one listener share."""

    id: str
    loop: Loop
    origins: Origins
    log: AccessLog
    routes: RouteTable
    policy: ForwardPolicy
    refusals: Refusals
    cache: FieldCache
    trusted: list[Any]
    draining: bool

    def __init__(self, id: str, loop: Loop, origins: Origins, log: AccessLog) -> None:
        self.id = id
        self.loop = loop
        self.origins = origins
        self.log = log
        self.routes = RouteTable([])
        self.policy = ForwardPolicy(False, 0, b"http")
        self.refusals = Refusals({})
        self.cache = FieldCache(100)
        self.trusted = []
        self.draining = False
        # limits (bytes) and time-outs (seconds)
        self.max_line = 8192
        self.max_head = 16384
        self.max_fields = 100
        self.max_body = -1
        self.client_header = 10.0
        self.client_body = 30.0
        self.client_idle = 60.0
        self.send_timeout = 60.0
        self.backend_response = 60.0
        self.tunnel_idle = 3600.0
        # counters
        self.column = -1
        self.touched = True
        self.connections = 0
        self.connections_total = 0
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.errors: dict[int, int] = {}
        self.errors_client_abort = 0
        self.errors_client_timeout = 0
        self.errors_send_timeout = 0
        self.errors_internal = 0
        self.cells: dict[str, dict[str, Answers]] = {}  # by rule, then by backend

    def is_trusted(self, address: str) -> bool:
        """The peer's X-Forwarded-* are believed."""
        if not self.trusted:
            return False
        parsed = ip_address(address)
        for network in self.trusted:
            if isinstance(network, (IPv4Network, IPv6Network)) and parsed in network:
                return True
        return False

    def client_behind(self, chain: bytes, peer: str) -> str:
        """The client that trusted peers forward for: the last address that is not trusted itself."""
        client = peer
        for item in reversed(chain.decode("latin-1").split(",")):
            try:
                client = str(ip_address(item.strip()))
            except ValueError:
                break
            if not self.is_trusted(client):
                break
        return client

    def count_error(self, status: int) -> None:
        """An answer of our own."""
        self.errors[status] = self.errors.get(status, 0) + 1

    def exchange_ended(self, exchange: Record) -> None:
        """Count it and write it down."""
        started = exchange.started
        us = int((self.loop.now - started) * 1e6)
        bucket = bucket_of(us)
        sent = exchange.status
        status = sent or CLIENT_GONE
        self.touched = True
        self.requests += 1
        self.bytes_in += exchange.bytes_in
        self.bytes_out += exchange.bytes_out
        rule = ""
        pool = exchange.pool
        if pool is not None:
            rule = pool.rule_id
            pool.count_answer(status, us, bucket)
        backend_id = ""
        backend = exchange.last_backend
        if backend is not None:
            backend_id = backend.id
            if exchange.answered_by_backend:
                backend.count_answer(status, us, bucket)
        cells = self.cells.get(rule)
        if cells is not None:
            cell = cells.get(backend_id)
            if cell is not None:
                cell.count_answer(status, us, bucket)
        log = self.log
        if log.enabled:
            head = exchange.head
            connected = exchange.connected_at
            first = exchange.first_byte_at
            log.record(
                started,
                self.id,
                rule,
                exchange.client_ip,
                exchange.client_port,
                head.method,
                head.target,
                head.minor if head.method else -1,
                head.host,
                sent,
                exchange.bytes_in,
                exchange.bytes_out,
                backend_id,
                exchange.attempts,
                exchange.reused,
                int((connected - started) * 1e6) if connected > 0.0 else -1,
                int((first - started) * 1e6) if first > 0.0 else -1,
                us,
                exchange.termination,
            )
