"""``twistd -n txlb --demo``: a load balancer and three backends in one command.

One worker process, as in earnest, so that what the demo shows is the shape that runs in
production; the backends live in the control process, out of the worker's way.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from txlb.control.balancer import LoadBalancer
from txlb.core.model import AccessLogSpec, AdminSpec, BackendSpec, ListenerSpec, RuleSpec, Snapshot
from txlb.net.sockets import close_all, listen_tcp
from txlb.service import build

LISTENER = "127.0.0.1:8080"
ADMIN = "127.0.0.1:9900"
COUNT = 3

TRY = f"""
txlb demo: http://{LISTENER}/ is served by three backends in turn. Try:

  curl http://{LISTENER}/             # again and again: each answer names its backend
  curl http://{ADMIN}/health      # who is there
  curl http://{ADMIN}/metrics     # for Prometheus
  wrk -c 50 -d 5 http://{LISTENER}/   # some load, if wrk is installed

Ctrl-C ends it. Your own: twistd -n txlb --config=lb.yaml
"""


class HelloProtocol(Protocol):
    """Answers every HTTP/1.1 request head with the name of its backend; bodies are not expected."""

    def __init__(self, name: str, open_connections: set[Any]) -> None:
        body = f"Hello from backend {name}\n".encode("ascii")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n"
        self._answer = head.encode("ascii") + body
        self._open = open_connections
        self._received = b""

    def connectionMade(self) -> None:
        self._open.add(self.transport)

    def dataReceived(self, data: bytes) -> None:
        *heads, self._received = (self._received + data).split(b"\r\n\r\n")
        if len(self._received) > 65536:
            self.transport.abortConnection()  # type: ignore[union-attr]
        elif heads:
            self.transport.write(self._answer * len(heads))  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._open.discard(self.transport)


class HelloFactory(Factory):
    """Builds `HelloProtocol`s of one backend."""

    noisy = False

    def __init__(self, name: str, open_connections: set[Any]) -> None:
        self._name = name
        self._open = open_connections

    def buildProtocol(self, addr: Any) -> HelloProtocol:
        return HelloProtocol(self._name, self._open)


class DemoBackends(Service):
    """Small HTTP servers on free ports of the loopback."""

    def __init__(self, reactor: Any, count: int = COUNT) -> None:
        self._reactor = reactor
        self._sockets = [listen_tcp("127.0.0.1:0")[0] for _ in range(count)]
        self._ports: list[Any] = []
        self._open: set[Any] = set()
        self.specs = tuple(
            BackendSpec(f"demo-{number}", "127.0.0.1", sock.getsockname()[1], address="127.0.0.1")
            for number, sock in enumerate(self._sockets, 1)
        )

    def startService(self) -> None:
        super().startService()
        for spec, sock in zip(self.specs, self._sockets, strict=True):
            factory = HelloFactory(spec.id, self._open)
            self._ports.append(self._reactor.adoptStreamPort(sock.fileno(), sock.family, factory))
        close_all(self._sockets)

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        for transport in list(self._open):
            transport.loseConnection()
        return DeferredList([port.stopListening() for port in self._ports])


def demo_snapshot(
    backends: tuple[BackendSpec, ...], listener: str = LISTENER, admin: str | None = ADMIN, workers: int = 1
) -> Snapshot:
    """What the demo runs."""
    return Snapshot(
        node_id="demo",
        workers=workers,
        admin=AdminSpec(admin),
        access_log=AccessLogSpec(format="off"),
        listeners=(ListenerSpec("demo", (listener,)),),
        backends=backends,
        rules=(RuleSpec("demo", tuple(backend.id for backend in backends)),),
    )


@dataclass(frozen=True, slots=True)
class DemoConfiguration:
    """In the place of a loaded file."""

    snapshot: Snapshot = field(default_factory=lambda: demo_snapshot(()))
    warnings: tuple[str, ...] = ()


def demo(reactor: Any, owns_process: bool = True, **bind: Any) -> LoadBalancer:
    """The load balancer with its backends; ``bind`` as in `demo_snapshot`."""
    backends = DemoBackends(reactor)
    return build(
        demo_snapshot(backends.specs, **bind),
        reactor,
        owns_process=owns_process,
        companions=[backends],
        started=lambda: print(TRY, file=sys.__stdout__, flush=True),
    )
