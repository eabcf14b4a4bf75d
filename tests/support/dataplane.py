"""The data path under a test's own hand: a real `Loop` on a real epoll, real sockets, no reactor, no threads.

Rules:

* Nothing happens but when the test says so: `Net.turn` is one wake-up, `Net.settle` all that is due,
  `Net.run_until` waits for a condition (or fails after `PATIENCE` seconds).
* A `Peer` is the far end of a connection, an `Origin` a backend of the test's; both are served by `Net.turn`.
* `Net.elapse` moves the deadlines' clock on; nothing waits for a time-out.
* `Net.close` ends everything and says whether a handler of txlb raised.
"""

from __future__ import annotations

import errno
import itertools
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from txlb.core.algorithms.round_robin import RoundRobin
from txlb.core.backend import Backend
from txlb.core.http.forward import VIA_CHAIN, ForwardPolicy
from txlb.core.pool import Pool
from txlb.core.routing import Route, RouteTable
from txlb.forwarding.accept import StreamAcceptor
from txlb.forwarding.access_log import AccessLog
from txlb.forwarding.http.listener import HttpListener
from txlb.forwarding.http.origins import Origins
from txlb.net.listener import Acceptor, Gate
from txlb.net.loop import BATCH, Loop
from txlb.net.stream import StreamTransport
from txlb.net.timers import TICK
from txlb.net.transport import StreamProtocol

#: How long anything may take, in seconds. Only a hang lasts as long.
PATIENCE = 10.0

SMALL_BUFFER = 16384
LINGER_RESET = struct.pack("ii", 1, 0)


SEGMENTS_IN = 140  # where it is in Linux's struct tcp_info


def segments_in(peer: Peer) -> int:
    """How many TCP segments have come from us."""
    info = peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, SEGMENTS_IN + 4)
    return int.from_bytes(info[SEGMENTS_IN:], sys.byteorder)


class Peer:
    """The far end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.data = b""
        self.reading = True
        self.ending = ""  # "fin" or "reset", once it came
        self.unsent = b""
        self.finishing = False

    def poll(self) -> bool:
        """Send and read what can be; whether anything happened."""
        if self.sock.fileno() < 0:
            return False
        happened = False
        while self.unsent and self.ending != "reset":
            try:
                sent = self.sock.send(self.unsent[:262144])
            except BlockingIOError:
                break
            except OSError:
                self.unsent = b""
                break
            self.unsent = self.unsent[sent:]
            happened = True
        if self.finishing and not self.unsent:
            self.finishing = False
            with suppress(OSError):  # reset meanwhile
                self.sock.shutdown(socket.SHUT_WR)
            happened = True
        pieces = []
        while self.reading and not self.ending:
            try:
                data = self.sock.recv(262144)
            except BlockingIOError:
                break
            except OSError as why:
                assert why.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN), why
                self.ending = "reset"
                break
            if not data:
                self.ending = "fin"
                break
            pieces.append(data)
        if pieces or (self.ending and not happened):
            happened = happened or bool(pieces)
            self.data += b"".join(pieces)
        return happened

    def send(self, data: bytes) -> None:
        """At once as far as the kernel takes it; the rest with the next turns."""
        self.unsent += data
        self.poll()

    def take(self) -> bytes:
        """What came since the last time."""
        data, self.data = self.data, b""
        return data

    def finish(self) -> None:
        """FIN, behind what is not sent yet."""
        self.finishing = True
        self.poll()

    def reset(self) -> None:
        """Close with RST."""
        if self.sock.fileno() >= 0:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Net:
    """A loop, the sockets on it, and their far ends."""

    def __init__(self, tight: bool = False) -> None:
        """``tight``: with small buffers everywhere."""
        self.tight = tight
        self.kind: type[StreamTransport] = StreamTransport  # what `connect` makes
        self.epoll = select.epoll()
        self.loop = Loop(self.epoll, True)
        self.peers: list[Peer] = []
        self.origins: list[Origin] = []
        self.transports: list[StreamTransport] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        if tight:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)

    # -- time and events ------------------------------------------------------------------

    def turn(self, wait: float = 0.0) -> bool:
        """One wake-up of the loop and a look at every peer; whether anything happened."""
        events = self.epoll.poll(wait, BATCH)
        self.loop.dispatch(events)
        happened = bool(events)
        for origin in self.origins:
            happened = origin.accept() or happened
        for peer in self.peers:
            happened = peer.poll() or happened
        return happened

    def settle(self) -> None:
        """Until nothing more happens. (What a loopback socket was given, its peer has.)"""
        deadline = time.monotonic() + PATIENCE
        quiet = 0
        while quiet < 2:
            quiet = 0 if self.turn() else quiet + 1
            assert time.monotonic() < deadline, "it never comes to rest"

    def run_until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition does not come about"
            if not self.turn():
                self.turn(0.005)

    def elapse(self, seconds: float) -> None:
        """Every deadline comes ``seconds`` nearer, step by step; what happens meanwhile is settled."""
        steps = min(100, max(1, round(seconds / TICK)))
        for _ in range(steps):
            self._hasten(seconds / steps)
            self.settle()

    def _hasten(self, seconds: float) -> None:
        # Time itself cannot be moved (`Loop.dispatch` reads it), so what waits for it is.
        wheel = self.loop.wheel
        now = time.monotonic()
        filed = {id(timed): timed for entries in wheel.slots.values() for timed in entries}
        wheel.slots.clear()
        wheel.current = int(now / TICK) - 1
        for timed in filed.values():
            timed.filed = 0
            if timed.deadline:
                wheel.arm(timed, timed.deadline - seconds)
        self.loop.now = now
        wheel.advance(now)
        self.loop.run_deferred()

    # -- connections ------------------------------------------------------------------------

    def pair(self, send_buffer: int = 0, receive_buffer: int = 0) -> tuple[socket.socket, Peer]:
        """A TCP connection: the socket for our side, and the far end."""
        far = socket.socket()
        if self.tight:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        if receive_buffer:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        far.connect(self._listening.getsockname())
        near, _ = self._listening.accept()
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if send_buffer:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        peer = Peer(far)
        self.peers.append(peer)
        return near, peer

    def arrive(self, gate: Gate, acceptor: Acceptor, data: bytes) -> Peer:
        """A client that has connected to ``acceptor`` and sent ``data``."""
        near, peer = self.pair()
        gate.open += 1
        acceptor.accepted(near, near.getpeername())
        if data:
            peer.send(data)
        self.settle()
        return peer

    def connect(
        self, protocol: Any, send_timeout: float = 60.0, send_buffer: int = 0, receive_buffer: int = 0
    ) -> tuple[StreamTransport, Peer]:
        """``protocol`` on one of our transports, and the far end."""
        near, peer = self.pair(send_buffer, receive_buffer)
        transport = self.kind(self.loop, near, near.getpeername(), send_timeout)
        self.transports.append(transport)
        transport.start(protocol)
        return transport, peer

    def close(self) -> None:
        for transport in self.transports:
            transport.abortConnection()
        for handler in list(self.loop.handlers.values()):
            if isinstance(handler, StreamTransport):
                handler.abortConnection()
        self.loop.run_deferred()
        for origin in self.origins:
            origin.close()
        for peer in self.peers:
            peer.close()
        self.loop.pipes.close()
        self._listening.close()
        self.epoll.close()

    def assert_no_failure(self) -> None:
        """No handler raised."""
        for why in (self.loop.last_failure, self.loop.wheel.last_failure):
            if why is not None:
                raise AssertionError("a handler raised") from why
        assert self.loop.failures == self.loop.wheel.failures == 0


@contextmanager
def network() -> Iterator[Net]:
    """A `Net` in which no handler may raise."""
    net = Net()
    try:
        yield net
        net.assert_no_failure()
    finally:
        net.close()


class Recorder(StreamProtocol):
    """Writes down what it hears."""

    def __init__(self, half_close: bool = True) -> None:
        super().__init__()
        self.half_close = half_close
        self.heard: list[str] = []
        self.data = b""
        self.reads: list[int] = []
        self.reasons: list[BaseException] = []
        self.inside = 0  # calls of ours that are running
        self.spliced_bytes = 0

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        self.heard.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.reads.append(len(data))

    def readConnectionLost(self) -> None:
        self.heard.append("end")
        if not self.half_close:
            super().readConnectionLost()

    def connectionLost(self, reason: Any) -> None:
        assert not self.inside, "connectionLost from inside a call of the protocol's own"
        self.heard.append("lost")
        self.reasons.append(reason.value)

    def pauseProducing(self) -> None:
        self.heard.append("pause")

    def resumeProducing(self) -> None:
        self.heard.append("resume")

    def spliced(self, size: int) -> None:
        self.spliced_bytes += size

    def splice_ended(self) -> None:
        self.heard.append("spliced")

    @property
    def losses(self) -> int:
        return self.heard.count("lost")


# -- HTTP -----------------------------------------------------------------------------------


class Origin:
    """A backend of the test's: its connections are `Peer`s, answered by hand."""

    def __init__(self, tight: bool = False) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        if tight:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.accepting = True
        self.peers: list[Peer] = []
        self.net: Net | None = None

    def accept(self) -> bool:
        happened = False
        while self.accepting and self.sock.fileno() >= 0:
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                break
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock)
            self.peers.append(peer)
            if self.net is not None:
                self.net.peers.append(peer)
            happened = True
        return happened

    def close(self) -> None:
        self.sock.close()

    @property
    def last(self) -> Peer:
        """The connection accepted last."""
        return self.peers[-1]


class Lines:
    """What an `AccessLog` writes to."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.lost = 0

    def put(self, lines: list[str]) -> bool:
        self.lines += lines
        return True

    def reopen(self) -> None:
        pass

    def take_problem(self) -> str:
        return ""

    def close(self, timeout: float) -> bool:
        return True


class Stage:
    """One HTTP listener's parts around a `Net`: clients and backends are the test's.

    All backends are in one rule, which matches everything.
    """

    def __init__(
        self,
        backends: int = 1,
        idle_limit: int = 100,
        max_connections: int | None = None,
        tight: bool = False,
    ) -> None:
        self.net = Net(tight)
        self.lines = Lines()
        self.log = AccessLog(self.lines, "json", "worker-1", time.time)
        self.log.flush(time.monotonic())
        self.sources = Origins(self.net.loop, idle_limit)
        self.settings = HttpListener("web", self.net.loop, self.sources, self.log)
        self.settings.policy = ForwardPolicy(False, VIA_CHAIN, b"http")
        self.gate = Gate(self.net.loop, 1000)
        self.acceptor = StreamAcceptor(self.settings, self.gate)
        self.origins = [Origin(tight) for _ in range(backends)]
        for origin in self.origins:
            origin.net = self.net
        self.net.origins += self.origins
        self.backends = [
            Backend(f"b{index}", "127.0.0.1", "127.0.0.1", origin.port, 1, max_connections)
            for index, origin in enumerate(self.origins)
        ]
        for backend in self.backends:
            backend.suspects = self.sources.suspects.raised
        self.pool = Pool("rule", lambda: RoundRobin(0.0), self.backends)
        self.settings.routes = RouteTable([Route(None, None, self.pool)])

    @property
    def origin(self) -> Origin:
        return self.origins[0]

    @property
    def backend(self) -> Backend:
        return self.backends[0]

    def client(self, data: bytes = b"") -> Peer:
        return self.net.arrive(self.gate, self.acceptor, data)

    def asked(self, client: Peer, data: bytes, origin: int = 0) -> Peer:
        """``client`` sends ``data``; the backend connection on which something arrives."""
        before = {id(peer): len(peer.data) for peer in self.origins[origin].peers}
        client.send(data)
        self.net.settle()
        for peer in self.origins[origin].peers:
            if len(peer.data) > before.get(id(peer), 0):
                return peer
        raise AssertionError("nothing reached the backend")

    def records(self) -> list[dict[str, Any]]:
        """The access log so far."""
        self.log.flush(time.monotonic())
        return [json.loads(line) for line in self.lines.lines]

    def reasons(self) -> list[str | None]:
        return [record["reason"] for record in self.records()]

    def terminations(self) -> list[str]:
        return [record["termination"] for record in self.records()]

    def assert_at_rest(self) -> None:
        """Nothing is out: no lease, no client; what is open to a backend is idle; no fault."""
        self.net.settle()
        self.net.assert_no_failure()
        assert self.gate.open == 0
        assert self.settings.connections == 0
        assert self.settings.requests == len(self.records()), "each exchange is logged once, counted once"
        idle = 0
        for backend in self.backends:
            assert backend.active_connections == 0, "a lease is out"
            own = [one for one in self.sources.idle.own if one.backend is backend]
            assert backend.idle == backend.connections == len(self.sources.idle.waiting(backend)) + len(own)
            assert backend.oldest is backend.youngest is None, "somebody waits for ever"
            idle += backend.idle
        assert self.sources.idle.total == idle
        for backend in self.backends:
            self.sources.idle.close(backend)
        self.net.settle()
        assert [backend.connections for backend in self.backends] == [0] * len(self.backends)
        assert not self.net.loop.handlers, "a descriptor is still watched"

    def close(self) -> None:
        self.net.close()


@contextmanager
def stage(backends: int = 1, **options: Any) -> Iterator[Stage]:
    """A `Stage` that ends at rest: clients leave and everything is given back."""
    it = Stage(backends, **options)
    try:
        yield it
        for peer in it.net.peers:
            if peer.sock.fileno() >= 0 and not any(peer in origin.peers for origin in it.origins):
                peer.reset()
        it.net.settle()
        it.assert_at_rest()
    finally:
        it.close()


def get(path: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/{version}", "Host: a.example", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes = b"", *fields: str, path: str = "/", size: int | None = None) -> bytes:
    """A request whose head announces ``size`` bytes (default: as many as ``body`` has), and ``body``."""
    length = len(body) if size is None else size
    return get(path, f"Content-Length: {length}", *fields, method="POST") + body


def ok(body: bytes = b"", *fields: str, status: str = "200 OK", size: int | None = None) -> bytes:
    """An answer with Content-Length."""
    length = len(body) if size is None else size
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def chunked(*pieces: bytes) -> bytes:
    """``pieces`` as a chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` cut at ``places``."""
    at = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(at)]
