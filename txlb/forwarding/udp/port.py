"""One bound socket of a UDP listener, and the flows that came by it.

Rules:

* A flow is known by the client's address and port; on a wildcard bind also by the address of ours that was
  asked. One dictionary lookup per datagram.
* `stop` stops reading, not answering: flows go on for as long as answers come at most `LINGER` seconds apart,
  then the copy is closed. A new copy of the same socket takes the flows over.
* Refused, and counted: a source with too many flows; a source that is a backend, this very listener or port 0
  (what is forged to come from there would go in circles, or nowhere).
* txlb itself never answers a datagram.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, cast, final

from txlb.core import termination as ends
from txlb.core.flows import Flow, source_of
from txlb.forwarding.udp.flow import UdpFlow
from txlb.net.datagram import BoundDatagrams
from txlb.net.listener import Gate

if TYPE_CHECKING:
    from txlb.forwarding.udp.listener import UdpListener

LINGER: Final = 1.0
MAPPED: Final = "::ffff:"


@final
class UdpPort(BoundDatagrams):
    """See the module."""

    listener: UdpListener
    gate: Gate
    flows: dict[Any, Flow]
    own_port: int
    own_ip: str
    inode: int
    stopped: bool

    def __init__(self, listener: UdpListener, gate: Gate, sock: Any) -> None:
        super().__init__(listener.loop, sock)
        self.listener = listener
        self.gate = gate
        self.flows = {}
        name = sock.getsockname()
        self.own_ip = name[0]
        self.own_port = name[1]
        self.inode = self.identity()
        self.stopped = False

    # -- data speed -----------------------------------------------------------------------

    def received(self, data: bytes, peer: Any, local: bytes) -> None:
        listener = self.listener
        now = self.loop.now
        listener.datagrams_in += 1
        listener.bytes_in += len(data)
        listener.touched = True
        key: Any = (peer, local) if local else peer
        found = self.flows.get(key)
        if found is None:
            flow = self._new_flow(key, peer, local, now)
            if flow is None:
                return
        else:
            flow = cast(UdpFlow, found)
            listener.table.touch(flow, now)
        flow.forward(data, now)

    def _new_flow(self, key: Any, peer: Any, local: bytes, now: float) -> UdpFlow | None:
        listener = self.listener
        ip: str = peer[0]
        port: int = peer[1]
        if port == 0 or (ip, port) in listener.forbidden or self._is_own(ip, port, local):
            listener.dropped_forbidden += 1
            return None
        table = listener.table
        source = source_of(ip)
        if not table.admits(source):
            listener.dropped_source += 1
            return None
        gate = self.gate
        victim = table.victim()
        if victim is None and gate.flows >= gate.flow_limit:
            victim = table.least()
            if victim is None:
                listener.dropped_resources += 1
                return None
        if victim is not None:
            listener.flows_evicted += 1
            cast(UdpFlow, victim).end(ends.FLOW_EVICTED)
        flow = UdpFlow(listener, self, key, source, peer, local, now)
        table.add(flow)
        gate.flows += 1
        listener.connections += 1
        listener.connections_total += 1
        listener.watch()
        return flow

    def _is_own(self, ip: str, port: int, local: bytes) -> bool:
        if port != self.own_port:
            return False
        if local:
            family = socket.AF_INET if len(local) == 4 else socket.AF_INET6
            return ip == socket.inet_ntop(family, local)
        return ip == self.own_ip

    def flow_ended(self) -> None:
        """One of ours is gone."""
        self.gate.flows -= 1
        self.listener.connections -= 1
        if self.stopped and not self.flows:
            self.end()

    # -- control speed --------------------------------------------------------------------

    def stop(self) -> None:
        if self.stopped:
            return
        self.stopped = True
        self.pause()
        if self.flows:
            self.gate.lingering.append(self)
            self.loop.arm(self, LINGER)
        else:
            self.end()

    def timed_out(self, now: float) -> None:
        """While it lingers: end what is quiet."""
        for flow in list(self.flows.values()):
            if flow.used + LINGER <= now:
                cast(UdpFlow, flow).end(ends.NORMAL)
        if self.sock is not None:
            self.loop.arm(self, LINGER)

    def take_over(self, old: UdpPort) -> None:
        """``old`` lingers with a copy of our socket: its flows are ours from now on."""
        self.flows = old.flows
        old.flows = {}
        for flow in self.flows.values():
            cast(UdpFlow, flow).port = self
        old.end()

    def end(self) -> None:
        self.stopped = True
        for flow in list(self.flows.values()):
            cast(UdpFlow, flow).end(ends.SHUTDOWN)
        if self.sock is None:
            return  # the last flow's end was ours
        if self in self.gate.lingering:
            self.gate.lingering.remove(self)
        self.loop.cancel(self)
        self.close()
        self.listener.port_ended(self)
