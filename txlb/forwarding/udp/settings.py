"""What flows look up on their UDP listener: the table, the rule's backends, limits, counters, log.

Rules:

* One per listener and worker. A flow counts as a request, once, when it ends; datagrams and bytes count as
  they pass.
* Every datagram that is not passed on is counted, by the reason: ``dropped_…``.
* At most ``gate.flow_limit`` flows of all listeners of a worker, a descriptor each: past it the listener's
  own least recently used one makes room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from txlb.core.flows import FlowTable
from txlb.core.pool import Pool
from txlb.forwarding.listener import Listener
from txlb.net.loop import Loop

if TYPE_CHECKING:
    from txlb.forwarding.access_log import AccessLog
    from txlb.forwarding.udp.flow import FlowRecord

UNLIMITED: Final = -1


class UdpSettings(Listener):
    """What ports and flows of one UDP listener share."""

    table: FlowTable
    pool: Pool | None
    max_responses: int  # per datagram of the client; UNLIMITED = time ends the flow
    forbidden: set[tuple[str, int]]  # who may not be a client: backends, whose answers would be forwarded

    def __init__(self, id: str, loop: Loop, log: AccessLog) -> None:
        super().__init__(id, loop, log)
        self.table = FlowTable(65536, 1024, 60.0)
        self.pool = None
        self.max_responses = UNLIMITED
        self.forbidden = set()
        # counters
        self.datagrams_in = 0
        self.datagrams_out = 0
        self.flows_evicted = 0
        self.dropped_source = 0  # its source has ``max_flows_per_source``
        self.dropped_forbidden = (
            0  # from a backend, from ourselves, or from port 0: an answer would go in circles
        )
        self.dropped_backend = 0  # no backend could take it
        self.dropped_send = 0  # the kernel took it neither towards the backend nor towards the client
        self.dropped_resources = 0  # no descriptor or memory for a flow
        self.dropped_queue = 0  # the kernel's queue was full before we came

    def flow_ended(self, record: FlowRecord) -> None:
        """Count it and write it down."""
        self.touched = True
        self.requests += 1
        rule = ""
        pool = record.pool
        if pool is not None:
            rule = pool.rule_id
            pool.requests += 1
            pool.touch()
        log = self.log
        if log.enabled:
            started = record.started
            first = record.first_byte_at
            backend = record.last_backend
            log.record_flow(
                started,
                self.id,
                rule,
                record.client_ip,
                record.client_port,
                record.datagrams_in,
                record.datagrams_out,
                record.bytes_in,
                record.bytes_out,
                "" if backend is None else backend.id,
                record.attempts,
                int((first - started) * 1e6) if first > 0.0 else -1,
                int((self.loop.now - started) * 1e6),
                record.termination,
            )
