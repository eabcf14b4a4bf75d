"""What TCP connections look up on their listener: rules, deadlines, counters, log.

Rules:

* One per listener and worker; connections under way see a reload at their next step.
* A connection is counted once, when it ends: on the listener, on its rule, and in the log; its bytes are
  counted as they move (`txlb.forwarding.relay`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from txlb.core.routing import RouteTable
from txlb.forwarding.accept import StreamListener
from txlb.net.loop import Loop

if TYPE_CHECKING:
    from txlb.forwarding.access_log import AccessLog
    from txlb.forwarding.http.origins import Origins
    from txlb.forwarding.tcp.record import TcpRecord


class TcpSettings(StreamListener):
    """What the connections of one TCP listener share."""

    origins: Origins
    routes: RouteTable

    def __init__(self, id: str, loop: Loop, origins: Origins, log: AccessLog) -> None:
        super().__init__(id, loop, log)
        self.origins = origins
        self.routes = RouteTable([])
        self.send_timeout = 60.0
        self.tunnel_idle = 3600.0

    def ended(self, record: TcpRecord) -> None:
        """Count it and write it down."""
        self.touched = True
        self.requests += 1
        self.bytes_in += record.bytes_in - record.counted_in
        self.bytes_out += record.bytes_out - record.counted_out
        rule = ""
        pool = record.pool
        if pool is not None:
            rule = pool.rule_id
            pool.requests += 1
            pool.touch()
        log = self.log
        if log.enabled:
            started = record.started
            connected = record.connected_at
            first = record.first_byte_at
            backend = record.last_backend
            log.record_connection(
                started,
                self.id,
                rule,
                record.client_ip,
                record.client_port,
                record.server_name,
                record.bytes_in,
                record.bytes_out,
                "" if backend is None else backend.id,
                record.attempts,
                int((connected - started) * 1e6) if connected > 0.0 else -1,
                int((first - started) * 1e6) if first > 0.0 else -1,
                int((self.loop.now - started) * 1e6),
                record.termination,
            )
