"""UDP clients and backends of a test's, and a UDP listener between them on a `Net`.

Nothing happens but when the test says so: `Net.settle` does all that is due, sockets here are read by hand.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.dataplane import Lines, Net, network

from txlb.core.algorithms.base import Algorithm
from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend
from txlb.core.model import ListenerSpec, RuleSpec, Snapshot, TimeoutsSpec, UdpSpec
from txlb.core.pool import Pool
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.http.origins import Origins
from txlb.forwarding.udp.flow import BackendDatagrams
from txlb.forwarding.udp.listener import UdpListener
from txlb.forwarding.udp.port import UdpPort
from txlb.net.listener import Gate
from txlb.net.sockets import bind_udp

Address = Any


def udp_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Bound, non-blocking."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((host, port))
    return sock


def received(sock: socket.socket) -> list[tuple[bytes, Address]]:
    """Everything that has come."""
    found = []
    try:
        while True:
            found.append(sock.recvfrom(65535))
    except BlockingIOError:
        return found


class Listening(Algorithm):
    """Round robin that writes down how leases ended."""

    def __init__(self, heard: list[int]) -> None:
        super().__init__()
        self.heard = heard
        self.observes = True
        self.inner = RoundRobin()

    def rebuild(self, backends: list[Backend]) -> None:
        self.inner.rebuild(backends)

    def pick(self, context: object, tried: list[Backend]) -> Backend | None:
        return self.inner.pick(context, tried)

    def observe(self, backend: Backend, outcome: int, now: float) -> None:
        self.heard.append(outcome)


class UdpNet:
    """A UDP listener with its backends, and clients."""

    def __init__(self, net: Net, backends: int, bind: str, udp: UdpSpec, idle: float) -> None:
        self.net = net
        self.gate = Gate(net.loop, 100)
        self.lines = Lines()
        self.log = AccessLog(self.lines, "json", "worker-1", lambda: 0.0)
        self.sockets = [udp_socket("::1" if "[" in bind else "127.0.0.1") for _ in range(backends)]
        self.backends = []
        for index, sock in enumerate(self.sockets):
            host, port = sock.getsockname()[:2]
            self.backends.append(Backend(f"b{index}", host, host, port))
        self.pool = Pool("rule", RoundRobin, self.backends)
        self.listener = UdpListener("dns", net.loop, Origins(net.loop, 10), self.log)
        self.bind = bind
        self.configure(udp, idle)
        (self.control_copy,) = bind_udp(bind)
        self.port: UdpPort = self.serve()
        self.clients: list[socket.socket] = []

    def configure(self, udp: UdpSpec, idle: float = 60.0) -> None:
        spec = ListenerSpec("dns", (self.bind,), "udp", udp=udp)
        rule = RuleSpec("rule", tuple(one.id for one in self.backends), ("dns",))
        snapshot = Snapshot(listeners=(spec,), rules=(rule,), timeouts=TimeoutsSpec(udp_idle=idle))
        self.listener.configure(spec, snapshot, {"rule": self.pool})

    def serve(self) -> Any:
        return self.listener.serve(self.gate, self.control_copy.dup())

    @property
    def address(self) -> Address:
        return self.control_copy.getsockname()[:2]

    def client(self, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
        sock = udp_socket(host, port)
        self.clients.append(sock)
        return sock

    def send(self, client: socket.socket, *datagrams: bytes) -> None:
        """To the listener, one after the other, and whatever follows from it."""
        for data in datagrams:
            client.sendto(data, self.address)
            self.net.settle()

    def ask(self, client: socket.socket, data: bytes) -> list[bytes]:
        """Send, have the backend that got it answer ``re:`` and the same; what the client hears."""
        self.send(client, data)
        for sock in self.sockets:
            if sock.fileno() >= 0:
                for got, flow in received(sock):
                    sock.sendto(b"re:" + got, flow)
        self.net.settle()
        return [got for got, _ in received(client)]

    def clients_by_backend(self, count: int) -> list[list[socket.socket]]:
        """``count`` new clients whose flows are up, by the backend that serves them."""
        found: list[list[socket.socket]] = [[] for _ in self.backends]
        for _ in range(count):
            client = self.client()
            before = [backend.requests for backend in self.backends]
            assert self.ask(client, b"hello") == [b"re:hello"]
            after = [backend.requests for backend in self.backends]
            (index,) = [index for index, old in enumerate(before) if after[index] > old]
            found[index].append(client)
        return found

    def elapse(self, seconds: float) -> None:
        """As `Net.elapse`, for what flows know of time, too."""
        table = self.listener.table
        steps = max(1, round(seconds / 0.25))
        for _ in range(steps):
            for order in (table.fresh, table.settled):
                flow = order.oldest
                while flow is not None:
                    flow.used -= seconds / steps
                    flow = flow.newer
            for backend in self.backends:
                backend.avoid_until -= seconds / steps
            for one in self.listener.ports:
                for found in one.flows.values():
                    found.stay_until -= seconds / steps  # type: ignore[attr-defined]
                    if found.answered_at:  # type: ignore[attr-defined]
                        found.answered_at -= seconds / steps  # type: ignore[attr-defined]
            self.net.elapse(seconds / steps)

    def backend_socket(self, port: int) -> socket.socket:
        """Another socket that a backend answers from."""
        return udp_socket("127.0.0.1", port)

    def links(self) -> list[BackendDatagrams]:
        """The flows' sockets towards backends."""
        return [one for one in self.net.loop.handlers.values() if isinstance(one, BackendDatagrams)]

    def listener_udp(self) -> UdpSpec:
        """Its bounds as they are."""
        table = self.listener.table
        most = self.listener.max_responses
        return UdpSpec(None if most < 0 else most, table.max_flows, table.max_per_source)

    def observe(self, heard: list[int]) -> None:
        """Write down every lease's outcome from now on."""
        self.pool.set_algorithm(lambda: Listening(heard))
        self.pool.rebuild()

    def logged(self) -> list[dict[str, Any]]:
        self.log.flush(self.net.loop.now)
        return [json.loads(line) for line in self.lines.lines]

    def close(self) -> None:
        self.port.stop()
        for port in list(self.listener.ports):
            port.end()
        for sock in [*self.sockets, *self.clients, self.control_copy]:
            sock.close()


@contextmanager
def udp_network(
    backends: int = 1, bind: str = "127.0.0.1:0", idle: float = 60.0, **udp: Any
) -> Iterator[UdpNet]:
    """A `UdpNet` in which no handler may raise, and that gives everything back."""
    with network() as net:
        one = UdpNet(net, backends, bind, UdpSpec(**udp), idle)
        try:
            yield one
            net.assert_no_failure()
        finally:
            one.close()
        assert one.gate.flows == 0
        assert one.listener.connections == 0
        assert one.gate.lingering == []
        assert one.listener.ports == []
        assert [backend.active_connections for backend in one.backends] == [0] * backends
        assert [backend.connections for backend in one.backends] == [0] * backends
