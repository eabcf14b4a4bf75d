"""Where the admin API listens.

Its address is bound with the listeners, before anything starts; Klein is imported later.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from txlb.control.node import Node
from txlb.errors import ListenError
from txlb.net.sockets import describe, listen_tcp, listen_unix, parse_bind


class AdminListener:
    """One bind, ``host:port`` on the loopback or ``unix:/path``."""

    def __init__(self, bind: str) -> None:
        self._bind = bind
        self._socket: socket.socket | None = None
        self._port: Any = None
        self.address = ""

    def bind(self) -> None:
        """Raises `ListenError`, also for an address that others can reach: there is no authentication yet."""
        if self._bind.startswith("unix:"):
            self._socket = listen_unix(self._bind.removeprefix("unix:"))
        else:
            host = parse_bind(self._bind)[1]
            if not ipaddress.ip_address(host).is_loopback:
                raise ListenError(
                    f"admin.bind {self._bind}: only a loopback address (127.0.0.1, [::1]) or unix:/path"
                    " is possible: the admin API has neither authentication nor TLS yet"
                )
            self._socket = listen_tcp(self._bind)[0]
        self.address = describe(self._socket)

    def start(self, node: Node, reactor: Any) -> None:
        """Serve."""
        from txlb.control.api.app import AdminApi
        from txlb.control.api.site import AdminSite, is_loopback_host

        assert self._socket is not None
        bound = "" if self._socket.family == socket.AF_UNIX else self._socket.getsockname()[0]
        api = AdminApi(node, reactor)
        site = AdminSite(
            api.app.resource(), lambda header: not bound or is_loopback_host(header, bound), reactor
        )
        self._port = reactor.adoptStreamPort(self._socket.fileno(), self._socket.family, site)
        self._socket.close()
        self._socket = None

    def stop(self) -> Deferred[None]:
        """Stop listening; a UNIX socket's file goes too."""
        port, self._port = self._port, None
        if self._socket is not None:  # bound, but the start failed elsewhere
            if self._socket.family == socket.AF_UNIX:
                os.unlink(self._socket.getsockname())
            self._socket.close()
            self._socket = None
        return succeed(None) if port is None else maybeDeferred(port.stopListening)
