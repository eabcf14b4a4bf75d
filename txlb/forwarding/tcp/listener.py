"""A TCP listener: its settings from the configuration, its connections from sockets.

Rules:

* Without `sni` one rule serves all of it; with `sni`, the rule of the server name that the client asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable
from txlb.forwarding.client import ClientProtocol
from txlb.forwarding.tcp.client import TcpClient
from txlb.forwarding.tcp.settings import TcpSettings
from txlb.net.listener import Gate

if TYPE_CHECKING:
    from txlb.core.model import ListenerSpec, Snapshot


class TcpListener(TcpSettings):
    """`TcpSettings` as the plane knows it."""

    def configure(self, spec: ListenerSpec, snapshot: Snapshot, pools: Mapping[str, Pool]) -> None:
        super().configure(spec, snapshot, pools)
        self.send_timeout = snapshot.timeouts.send
        self.tunnel_idle = snapshot.timeouts.tunnel_idle
        self.routes = RouteTable(
            [
                Route(rule.host, None, pools[rule.id])
                for rule in snapshot.rules
                if rule.listeners is not None and spec.id in rule.listeners
            ]
        )

    def client(self, gate: Gate, ip: str, port: int) -> ClientProtocol:
        return TcpClient(self, gate, ip, port, self.routes.match(b"", b""), b"")

    def client_of(self, gate: Gate, ip: str, port: int, server_name: bytes) -> ClientProtocol | None:
        pool = self.routes.match(server_name, b"")
        if pool is None:
            return None
        return TcpClient(self, gate, ip, port, pool, server_name)
