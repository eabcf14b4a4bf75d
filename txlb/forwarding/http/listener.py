"""An HTTP listener: its settings from the configuration, its connections from sockets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from txlb.core.http.forward import (
    EVERYBODY,
    NOBODY,
    TRUSTED,
    VIA_ALWAYS,
    VIA_CHAIN,
    VIA_OFF,
    ForwardPolicy,
)
from txlb.core.http.head import FieldCache
from txlb.core.http.refusals import Refusals
from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable
from txlb.forwarding.client import ClientProtocol
from txlb.forwarding.http.client import ClientConnection
from txlb.forwarding.http.settings import HttpSettings
from txlb.net.listener import Gate

if TYPE_CHECKING:
    from txlb.core.model import ListenerSpec, Snapshot

VIA: Final = {"chain": VIA_CHAIN, "always": VIA_ALWAYS, "off": VIA_OFF}


def _identity(spec: ListenerSpec, snapshot: Snapshot) -> int:
    """Whose X-Ssl-Client-* are believed."""
    if _asks_clients(spec):
        return NOBODY
    return TRUSTED if any(map(_asks_clients, snapshot.listeners)) else EVERYBODY


def _asks_clients(spec: ListenerSpec) -> bool:
    tls = spec.tls
    if tls is None:
        return False
    return tls.client_ca is not None or any(one.client_ca is not None for one in tls.certificates)


class HttpListener(HttpSettings):
    """`HttpSettings` as the plane knows it."""

    def configure(self, spec: ListenerSpec, snapshot: Snapshot, pools: Mapping[str, Pool]) -> None:
        super().configure(spec, snapshot, pools)
        limits = snapshot.limits
        timeouts = snapshot.timeouts
        scheme = b"http" if spec.tls is None else b"https"
        self.policy = ForwardPolicy(spec.forwarded == "append", VIA[spec.via], scheme)
        self.policy.identity = _identity(spec, snapshot)
        self.realms = self.tls is not None and self.tls.asks_clients()
        self.cache = FieldCache(limits.fields)  # remembers what the policy made of a block
        self.refusals = Refusals({it.status: (it.content_type, it.body) for it in snapshot.error_responses})
        self.max_line = limits.request_line
        self.max_head = limits.head
        self.max_fields = limits.fields
        self.max_body = -1 if limits.body is None else limits.body
        self.client_body = timeouts.client_body
        self.client_idle = timeouts.client_idle
        self.send_timeout = timeouts.send
        self.backend_response = timeouts.backend_response
        self.tunnel_idle = timeouts.tunnel_idle
        self.routes = RouteTable(
            [
                Route(rule.host, rule.path_prefix, pools[rule.id])
                for rule in snapshot.rules
                if rule.listeners is None or spec.id in rule.listeners
            ]
        )

    def plain_answer(self) -> bytes:
        return self.refusals.answer(400, False, 1, False)

    def client(self, gate: Gate, ip: str, port: int) -> ClientProtocol:
        return ClientConnection(self, gate, ip, port)
