"""From an accepted socket to a client connection."""

from __future__ import annotations

from typing import Any

from txlb.forwarding.http.client import ClientConnection
from txlb.forwarding.http.settings import HttpSettings
from txlb.net.listener import Acceptor, Gate
from txlb.net.splicing import SplicingTransport

MAPPED = "::ffff:"
UNIX = "unix:"  # the address of clients that come through a UNIX socket: they have none


class HttpAcceptor(Acceptor):
    """Gives each connection of one HTTP listener its protocol."""

    settings: HttpSettings
    gate: Gate

    def __init__(self, settings: HttpSettings, gate: Gate) -> None:
        self.settings = settings
        self.gate = gate

    def accepted(self, sock: Any, peer: Any) -> None:
        settings = self.settings
        ip = UNIX
        port = 0
        if isinstance(peer, tuple):
            ip = peer[0]
            port = peer[1]
            if ip.startswith(MAPPED) and "." in ip:
                ip = ip[7:]  # an IPv4 client of a dual-stack listener
        protocol = ClientConnection(settings, self.gate, ip, port)
        SplicingTransport(settings.loop, sock, peer, settings.send_timeout).start(protocol)
