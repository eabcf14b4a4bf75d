"""What HTTP connections and exchanges look up on their listener: settings, counters, log.

Rules:

* One per listener and worker; exchanges under way see a reload at their next step.
* An exchange is counted once, when it ends: on the listener, on its rule, on its backend if
  that answered, in the (listener, rule, backend) cell, and in the log. All agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from txlb.core import termination as ends
from txlb.core.http.forward import ForwardPolicy
from txlb.core.http.head import FieldCache, RequestHead
from txlb.core.http.refusals import Refusals
from txlb.core.latency import bucket_of
from txlb.core.routing import RouteTable
from txlb.forwarding.accept import StreamListener
from txlb.net.loop import Loop

if TYPE_CHECKING:
    from txlb.forwarding.access_log import AccessLog
    from txlb.forwarding.http.origins import Origins
    from txlb.forwarding.http.record import HttpRecord


CLIENT_GONE: Final = 499  # what an exchange without any answer counts as


class HttpSettings(StreamListener):
    """What connections and exchanges of one HTTP listener share."""

    origins: Origins
    routes: RouteTable
    policy: ForwardPolicy
    refusals: Refusals
    cache: FieldCache

    def __init__(self, id: str, loop: Loop, origins: Origins, log: AccessLog) -> None:
        super().__init__(id, loop, log)
        self.origins = origins
        self.routes = RouteTable([])
        self.policy = ForwardPolicy(False, 0, b"http")
        self.refusals = Refusals({})
        self.cache = FieldCache(100)
        self.realms = False  # names differ in whether they ask for client certificates
        # limits (bytes) and time-outs (seconds)
        self.max_line = 8192
        self.max_head = 16384
        self.max_fields = 100
        self.max_body = -1
        self.client_body = 30.0
        self.client_idle = 60.0
        self.send_timeout = 60.0
        self.backend_response = 60.0
        self.tunnel_idle = 3600.0

    def is_misdirected(self, host: bytes, realm: str) -> bool:
        """``host`` asks for client certificates, but not as the connection of ``realm`` was asked."""
        tls = self.tls
        if tls is None:
            return False
        wanted = tls.realm_of(host.decode("latin-1")).key
        return wanted != "" and wanted != realm

    def objection(self, head: RequestHead, realm: str) -> int:
        """How a well-formed request ends that is refused here (``head`` says with what); -1: it is not."""
        if self.realms and self.is_misdirected(head.host, realm):
            head.refuse(421, "this name asks for a client certificate")
            return ends.MISDIRECTED
        if self.max_body >= 0 and head.content_length > self.max_body:
            head.refuse(413, "body too large")
            return ends.BODY_TOO_LARGE
        if head.fields.max_forwards == 0 and (head.method == b"TRACE" or head.method == b"OPTIONS"):
            head.refuse(200 if head.method == b"OPTIONS" else 405, "last hop")
            return ends.NORMAL
        return -1

    def exchange_ended(self, exchange: HttpRecord) -> None:
        """Count it and write it down."""
        started = exchange.started
        us = int((self.loop.now - started) * 1e6)
        bucket = bucket_of(us)
        sent = exchange.status
        status = sent or CLIENT_GONE
        self.touched = True
        self.requests += 1
        self.bytes_in += exchange.bytes_in - exchange.counted_in
        self.bytes_out += exchange.bytes_out - exchange.counted_out
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
            cell = None
            if backend is None:
                cell = cells.get("")
            elif backend.cells is cells:
                cell = backend.cell
            else:
                cell = backend.cell = cells.get(backend_id)
                backend.cells = cells
            if cell is not None:
                cell.count_code(status)
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
