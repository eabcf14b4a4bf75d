"""A UDP listener: its settings from the configuration, its ports from sockets, its idle flows to their end.

Rules:

* It has exactly one rule; a reload takes effect for new flows, and for old ones when they move.
* Idle flows are looked for when the first may be due, at most `SWEEP` of them per tick (0.1 s).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast, final

from txlb.core import termination as ends
from txlb.core.pool import Pool
from txlb.forwarding.http.origins import Origins
from txlb.forwarding.udp.flow import UdpFlow
from txlb.forwarding.udp.port import UdpPort
from txlb.forwarding.udp.settings import UNLIMITED, UdpSettings
from txlb.net.listener import Gate, Serving
from txlb.net.loop import Loop
from txlb.net.timers import TICK, Timed

if TYPE_CHECKING:
    from txlb.core.model import ListenerSpec, Snapshot
    from txlb.forwarding.access_log import AccessLog

SWEEP: Final = 1000
BOOKS: Final = 1.0  # seconds between two looks at what the kernel dropped


@final
class Sweep(Timed):
    """Ends flows that are idle, and asks what the kernel dropped."""

    listener: UdpListener

    def __init__(self, listener: UdpListener) -> None:
        super().__init__()
        self.listener = listener

    def timed_out(self, now: float) -> None:
        self.listener.sweep(now)


class UdpListener(UdpSettings):
    """`UdpSettings` as the plane knows it."""

    ports: list[UdpPort]
    _sweep: Sweep

    def __init__(self, id: str, loop: Loop, origins: Origins, log: AccessLog) -> None:
        super().__init__(id, loop, log)
        self.ports = []
        self._sweep = Sweep(self)

    def configure(self, spec: ListenerSpec, snapshot: Snapshot, pools: Mapping[str, Pool]) -> None:
        super().configure(spec, snapshot, pools)
        udp = spec.udp
        self.max_responses = UNLIMITED if udp.max_responses is None else udp.max_responses
        table = self.table
        table.max_flows = udp.max_flows
        table.max_per_source = udp.max_flows_per_source
        table.idle = snapshot.timeouts.udp_idle
        while len(table) > table.max_flows:
            flow = table.least()
            if flow is None:
                break
            self.flows_evicted += 1
            cast(UdpFlow, flow).end(ends.FLOW_EVICTED)
        self.pool = None
        self.forbidden = set()
        for rule in snapshot.rules:
            if rule.listeners is not None and spec.id in rule.listeners:
                pool = pools[rule.id]
                self.pool = pool
                self.forbidden = {(backend.address, backend.port) for backend in pool.backends}
        if len(table):
            self.loop.arm(self._sweep, TICK)  # the idle time may be shorter now

    def serve(self, gate: Gate, sock: Any) -> Serving:
        port = UdpPort(self, gate, sock)
        for old in self.ports:
            if old.stopped and old.inode == port.inode:
                port.take_over(old)
                break
        self.ports.append(port)
        port.start()
        return port

    def port_ended(self, port: UdpPort) -> None:
        """Its last flow is gone, after `UdpPort.stop`."""
        self.ports.remove(port)

    def watch(self) -> None:
        """There is a flow."""
        if self._sweep.deadline == 0.0:
            self.loop.arm(self._sweep, min(BOOKS, self.table.idle))

    def sweep(self, now: float) -> None:
        """End what is idle."""
        table = self.table
        idle = table.expired(now, SWEEP)
        for flow in idle:
            cast(UdpFlow, flow).end(ends.FLOW_IDLE)
        for port in self.ports:
            drops = port.take_drops()
            if drops:
                self.dropped_queue += drops
                self.touched = True
        due = table.next_expiry()
        if due > 0.0:
            self.loop.arm(self._sweep, min(BOOKS, max(TICK, due - now)))
