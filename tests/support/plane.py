"""A forwarding plane small enough to see through: it answers by itself and writes a few columns.

Tests of processes use it where the real plane would only add noise. It honours the whole seam
(`txlb.control.local.Plane`) on Twisted's own transports.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from txlb.core.model import Snapshot
from txlb.core.scoreboard import LISTENER, WORKER, Columns
from txlb.core.standing import Standing


class Answers(Protocol):
    """``HTTP/1.1 200`` with worker, pid and generation, per head; ``/slow`` answers after half a second."""

    def __init__(self, plane: StandInPlane, listener: str) -> None:
        self.plane = plane
        self.listener = listener
        self.buffer = b""
        self.busy = 0

    def connectionMade(self) -> None:
        self.plane.opened(self, 1)

    def dataReceived(self, data: bytes) -> None:
        *heads, self.buffer = (self.buffer + data).split(b"\r\n\r\n")
        for head in heads:
            self.busy += 1
            close = b"\r\nConnection: close" in head
            self.plane.reactor.callLater(0.5 if b" /slow " in head else 0, self.answer, close)

    def answer(self, close: bool) -> None:
        self.busy -= 1
        plane = self.plane
        plane.count(self.listener, "requests")
        body = f"{plane.identity} {os.getpid()} {plane.snapshot.generation} {self.listener}\n".encode()
        close = close or plane.stopping is not None
        last = b"Connection: close\r\n" if close else b""
        self.transport.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (last, len(body), body))
        if close:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.plane.opened(self, -1)


class AnswersFactory(Factory):
    noisy = False

    def __init__(self, plane: StandInPlane, listener: str) -> None:
        self.plane = plane
        self.listener = listener

    def buildProtocol(self, addr: Any) -> Answers:
        return Answers(self.plane, self.listener)


class StandInPlane:
    def __init__(
        self, reactor: Any, row: memoryview, identity: str, report: Callable[..., Any] = lambda reports: None
    ) -> None:
        self.report = report
        self.standings: dict[str, Standing] = {}
        self.reactor = reactor
        self.row = row
        self.identity = identity
        self.snapshot = Snapshot()
        self.columns = Columns(0)
        self.ports: dict[str, list[Any]] = {}
        self.open: set[Answers] = set()
        self.numbered: list[Answers] = []
        self.stopping: Deferred[None] | None = None
        self.ticking = LoopingCall(self.tick)
        self.ticking.clock = reactor

    def start(self) -> None:
        self.ticking.start(0.1)

    def tick(self) -> None:
        self.row[WORKER.index("heartbeat_ms")] = int(time.monotonic() * 1000)
        self.row[WORKER.index("ticks")] += 1

    def watch_siblings(self, rows: Sequence[memoryview]) -> None:
        pass

    def apply(self, snapshot: Snapshot, columns: Columns) -> None:
        if any(backend.id == "poison" for backend in snapshot.backends):
            raise ValueError("poisonous snapshot")
        self.snapshot = snapshot
        self.columns = columns
        self.row[WORKER.index("generation")] = snapshot.generation

    def set_standings(self, changes: Sequence[Standing]) -> None:
        self.standings.update({it.backend_id: it for it in changes})
        self.report([(it.backend_id, f"heard: {it.healthy} {it.drained} {it.drain_until}") for it in changes])

    def listen(self, listener_id: str, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            factory = AnswersFactory(self, listener_id)
            self.ports.setdefault(listener_id, []).append(
                self.reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
            )
            sock.close()

    def stop_listening(self, listener_id: str | None = None) -> None:
        for key in [listener_id] if listener_id is not None else list(self.ports):
            for port in self.ports.pop(key, ()):
                port.stopListening()

    def shutdown(self, timeout: float) -> Deferred[None]:
        self.stop_listening()
        self.stopping = Deferred()
        for one in self.open:
            if not one.busy:
                one.transport.loseConnection()
        self.give_up = self.reactor.callLater(timeout, self.abort)
        self.finish()
        return self.stopping

    def abort(self) -> None:
        self.stop_listening()
        for one in list(self.open):
            one.transport.abortConnection()

    def finish(self) -> None:
        if self.stopping is not None and not self.open and not self.stopping.called:
            self.ticking.stop()
            if self.give_up.active():
                self.give_up.cancel()
            self.stopping.callback(None)

    def connections(self, after: int, limit: int) -> list[dict[str, object]]:
        """Numbered from 1, in the order in which they came."""
        found: list[dict[str, object]] = []
        for number, one in enumerate(self.numbered, 1):
            if number > after and one in self.open and len(found) < limit:
                found.append(
                    {
                        "descriptor": number,
                        "connection_id": number + 100,
                        "client_ip": one.transport.getPeer().host,
                        "client_port": one.transport.getPeer().port,
                        "listener": one.listener,
                        "backend_id": "a",
                        "backend_connection_id": number + 200,
                        "session_id": None,
                        "created_at": 1.5,
                        "last_activity_at": 2.25,
                        "bytes_in": 3,
                        "bytes_out": 4,
                    }
                )
        return found

    def reopen_logs(self) -> None:
        self.row[WORKER.index("log_dropped")] += 1  # so that a test sees the message arrive

    def opened(self, one: Answers, step: int) -> None:
        (self.open.add if step > 0 else self.open.discard)(one)
        if step > 0:
            self.numbered.append(one)
        self.row[WORKER.index("connections")] = len(self.open)
        self.count(one.listener, "connections", step)
        if step > 0:
            self.count(one.listener, "connections_total")
        self.finish()

    def count(self, listener: str, name: str, step: int = 1) -> None:
        base = self.columns.listeners.get(listener)
        if base is not None:
            self.row[base + LISTENER.index(name)] += step


if __name__ == "__main__":
    from txlb.worker import main

    main(StandInPlane)
