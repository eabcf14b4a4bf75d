"""One TCP listener's parts around a `Net`, as `support.dataplane.Stage` is for HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.dataplane import Lines, Net, Origin, Peer

from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend
from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable
from txlb.forwarding.accept import StreamAcceptor
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.http.origins import Origins
from txlb.forwarding.tcp.listener import TcpListener
from txlb.net.listener import Gate


class Stage:
    """One TCP listener's parts around a `Net`: clients and backends are the test's."""

    def __init__(self, backends: int = 1) -> None:
        self.net = Net()
        self.lines = Lines()
        self.log = AccessLog(self.lines, "json", "worker-1", time.time)
        self.log.flush(time.monotonic())
        self.sources = Origins(self.net.loop, 100)
        self.listener = TcpListener("db", self.net.loop, self.sources, self.log)
        self.gate = Gate(self.net.loop, 1000)
        self.acceptor = StreamAcceptor(self.listener, self.gate)
        self.origins = [Origin() for _ in range(backends)]
        for origin in self.origins:
            origin.net = self.net
        self.net.origins += self.origins
        self.backends = [
            Backend(f"b{index}", "127.0.0.1", "127.0.0.1", origin.port)
            for index, origin in enumerate(self.origins)
        ]
        self.pool = Pool("rule", lambda: RoundRobin(0.0), self.backends)
        self.listener.routes = RouteTable([Route(None, None, self.pool)])

    def client(self, data: bytes = b"") -> Peer:
        return self.net.arrive(self.gate, self.acceptor, data)

    def pair(self, data: bytes = b"") -> tuple[Peer, Peer]:
        """A client and the backend that it reached."""
        client = self.client(data)
        backend = self.origins[0].last
        return client, backend

    def record(self) -> dict[str, Any]:
        """The one line of the log."""
        self.net.settle()
        self.log.flush(time.monotonic())
        (line,) = self.lines.lines
        found: dict[str, Any] = json.loads(line)
        return found

    def assert_at_rest(self) -> None:
        self.net.settle()
        self.net.assert_no_failure()
        self.log.flush(time.monotonic())
        assert self.gate.open == self.listener.connections == 0
        assert self.listener.requests == len(self.lines.lines) == self.listener.connections_total
        for backend in self.backends:
            assert (backend.active_connections, backend.connections) == (0, 0)
        assert not self.net.loop.handlers


@contextmanager
def stage(backends: int = 1) -> Iterator[Stage]:
    it = Stage(backends)
    try:
        yield it
        for peer in it.net.peers:
            if peer.sock.fileno() >= 0:
                peer.reset()
        it.assert_at_rest()
    finally:
        it.net.close()
