"""The forwarding plane of one worker: builds its live objects from snapshots, keeps its books.

Rules:

* `apply` takes a whole snapshot: objects whose id stays keep their identity, counters and
  connections; exchanges under way go on.
* What changes for a rule's backends is felt at once; its algorithm follows in slices (`rebuilds`), unless
  nothing is served yet.
* Who waits for a backend that turned UNHEALTHY is moved to another, in slices too.
* One tick (0.1 s) fires deadlines, writes changed counters to the scoreboard, hands log
  lines over and measures how late it is itself (loop lag).
* `shutdown`: no new connection, idle ones close, answers carry ``Connection: close``, and
  what has not ended by the deadline is aborted.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from txlb.core.backend import Backend
from txlb.core.model import AccessLogSpec, BackendSpec, BackendTlsSpec, Snapshot
from txlb.core.scoreboard import Columns
from txlb.core.standing import Standing
from txlb.forwarding.access_log import AccessLog, open_access_log
from txlb.forwarding.beginning import Beginning
from txlb.forwarding.board import Board
from txlb.forwarding.client import BackendProtocol, ClientProtocol
from txlb.forwarding.connections import client_connections
from txlb.forwarding.descriptors import share
from txlb.forwarding.draining import Drains
from txlb.forwarding.http.listener import HttpListener
from txlb.forwarding.http.origins import Origins
from txlb.forwarding.listener import Listener
from txlb.forwarding.rebuilds import Rebuilds
from txlb.forwarding.rules import Rules
from txlb.forwarding.siblings import Siblings
from txlb.forwarding.suspects import line_of
from txlb.forwarding.tcp.listener import TcpListener
from txlb.forwarding.udp.flow import BackendDatagrams
from txlb.forwarding.udp.listener import UdpListener
from txlb.net.handshakes import STOPPED, Arrival
from txlb.net.hosting import HostedLoop
from txlb.net.listener import Gate, Serving
from txlb.net.loop import Loop
from txlb.net.slices import Slices
from txlb.net.stream import StreamTransport
from txlb.net.timers import TICK
from txlb.net.tls_origin import TlsOrigin, client_context

MOVES = 16  # exchanges moved away from a backend per step
GIVEN_UP = 1000  # idle connections to backends a tick, to make room for clients
Report = Callable[[list[tuple[str, str]]], None]
VERSIONS = {None: 0, "v1": 1, "v2": 2}  # of PROXY headers
FOREVER = float("inf")
#: By protocol, who makes the live object of a listener: (id, loop, origins, log).
FACTORIES: dict[str, Callable[[str, Loop, Origins, AccessLog], Listener]] = {
    "http": HttpListener,
    "udp": UdpListener,
    "tcp": TcpListener,
}


class ForwardingPlane:
    """Everything one worker forwards with."""

    log = Logger()

    def __init__(
        self, reactor: Any, row: memoryview, identity: str, report: Report = lambda reports: None
    ) -> None:
        """``row``: this worker's scoreboard row; ``identity``: e.g. "worker-1".

        ``report`` takes what control should know of backends: (id, reason) each, once a tick at most.
        """
        self._reactor = reactor
        self._report = report
        self._identity = identity
        self._hosted = HostedLoop(reactor)
        self._loop = self._hosted.loop
        self._open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._share = share(self._open_files, (), None)
        self._gate = Gate(self._loop, self._share.clients)
        self._origins = Origins(self._loop, self._share.backends)
        self._board = Board(row)
        self._slices = Slices(reactor)
        self._rebuilds = Rebuilds(reactor, self._slices)
        self._siblings = Siblings([], self._slices)
        self._access_log_spec: AccessLogSpec | None = None
        self._access_log: AccessLog | None = None
        self._snapshot = Snapshot()
        self._backends: dict[str, Backend] = {}
        self._specs: dict[str, BackendSpec] = {}  # what they were made or changed for
        self._standings: dict[str, Standing] = {}  # those that are not as usual
        self._drains = Drains()
        self._rules = Rules(self._rebuilds)
        self._contexts: dict[BackendTlsSpec, Any] = {}
        self._listeners: dict[str, Listener] = {}
        self._protocols: dict[str, str] = {}
        self._sockets: dict[str, list[Serving]] = {}
        self._stopping: Deferred[None] | None = None
        self._deadline = 0.0
        self._failures_told = 0
        self._next_tick = 0.0
        self._next_look = 0.0

    # -- configuration --------------------------------------------------------------------

    def apply(self, snapshot: Snapshot, columns: Columns) -> None:
        """Make ``snapshot`` the configuration in force."""
        self._snapshot = snapshot
        protocols = {listener.protocol for listener in snapshot.listeners}
        part = self._share = share(self._open_files, protocols, snapshot.limits.max_connections)
        self._gate.set_limit(part.clients)
        self._gate.flow_limit = part.flows
        self._loop.pipes.set_limit(part.pipes)
        self._apply_log(snapshot.access_log)
        self._apply_origins(snapshot)
        self._apply_backends(snapshot)
        self._rules.apply(snapshot, self._backends, bool(self._sockets))
        self._apply_listeners(snapshot)
        self._board.assign(columns, self._listeners, self._rules.pools, self._backends)
        self._board.generation(snapshot.generation)
        self._siblings.watch(self._rules.weighed)

    def _apply_log(self, spec: AccessLogSpec) -> None:
        if spec == self._access_log_spec:
            return
        old = self._access_log
        self._access_log_spec = spec
        self._access_log = open_access_log(spec, self._identity, time.time)
        self._access_log.flush(time.monotonic())
        for listener in self._listeners.values():
            listener.log = self._access_log
        if old is not None:
            old.close()

    def _apply_origins(self, snapshot: Snapshot) -> None:
        origins = self._origins
        origins.connect_timeout = snapshot.timeouts.connect
        origins.send_timeout = snapshot.timeouts.send
        origins.suspects.suspect_after = snapshot.health_check.suspect_after
        idle = origins.idle
        idle.min_per_backend = snapshot.idle_connections.min_per_backend
        idle.max_per_backend = snapshot.idle_connections.max_per_backend
        idle.idle_timeout = snapshot.idle_connections.idle_timeout

    def _apply_backends(self, snapshot: Snapshot) -> None:
        backends: dict[str, Backend] = {}
        contexts: dict[BackendTlsSpec, Any] = {}
        specs = self._specs
        for spec in snapshot.backends:
            backend = self._backends.get(spec.id)
            if backend is not None and specs.get(spec.id) is spec:  # of a delta, nearly all
                if spec.tls is not None:
                    contexts[spec.tls] = self._contexts[spec.tls]
                backends[spec.id] = backend
                continue
            if backend is None:
                backend = Backend(
                    spec.id, spec.host, spec.address, spec.port, spec.weight, spec.max_connections
                )
                backend.suspects = self._origins.suspects.raised
                if standing := self._standings.get(spec.id):
                    backend.healthy = standing.healthy
                    self._set_drained(backend, standing)
            else:
                if (backend.address, backend.port) != (spec.address, spec.port):
                    self._origins.idle.close(backend)
                if backend.proxy_protocol != VERSIONS[spec.proxy_protocol]:
                    self._origins.idle.close(backend)
                backend.update(spec.host, spec.address, spec.port, spec.weight, spec.max_connections)
            if self._secure(backend, spec, contexts):
                self._origins.idle.close(backend)
            backend.proxy_protocol = VERSIONS[spec.proxy_protocol]
            backend.suspect_after = spec.health_check.suspect_after or 0.0
            backends[spec.id] = backend
        for name in self._backends.keys() - backends.keys():
            gone = self._backends[name]
            self._origins.idle.close(gone)
            self._drains.end(name)
            gone.update(gone.host, "", gone.port, 0, None)  # it is nowhere: nothing is kept for it
        self._backends = backends
        self._specs = {spec.id: spec for spec in snapshot.backends}
        self._contexts = contexts

    def _secure(self, backend: Backend, spec: BackendSpec, contexts: dict[BackendTlsSpec, Any]) -> bool:
        """How TLS to it is spoken; True if that changed. Backends with the same settings share a context."""
        tls = spec.tls
        if tls is None:
            changed = backend.secure is not None
            backend.secure = None
            return changed
        context = contexts.get(tls)
        if context is None:
            context = contexts[tls] = self._contexts.get(tls) or client_context(tls)
        origin = backend.secure
        if isinstance(origin, TlsOrigin) and origin.context is context and origin.host == spec.host:
            return False
        backend.secure = TlsOrigin(tls, spec.host, context)
        return True

    def _apply_listeners(self, snapshot: Snapshot) -> None:
        assert self._access_log is not None
        listeners: dict[str, Listener] = {}
        for spec in snapshot.listeners:
            make = FACTORIES[spec.protocol]
            listener = self._listeners.get(spec.id)
            if listener is None or self._protocols.get(spec.id) != spec.protocol:
                listener = make(spec.id, self._loop, self._origins, self._access_log)
                listener.draining = self._stopping is not None
            listener.configure(spec, snapshot, self._rules.pools)
            listeners[spec.id] = listener
        self._listeners = listeners
        self._protocols = {spec.id: spec.protocol for spec in snapshot.listeners}

    def set_standings(self, changes: Sequence[Standing]) -> None:
        """What control decided about these backends; of those that are not here yet, it is remembered."""
        changed: set[Backend] = set()
        fallen: list[Backend] = []
        for standing in changes:
            if standing.is_default:
                self._standings.pop(standing.backend_id, None)
            else:
                self._standings[standing.backend_id] = standing
            backend = self._backends.get(standing.backend_id)
            if backend is None:
                continue
            if standing.healthy and not backend.healthy:
                backend.trust()
            fell = backend.healthy and not standing.healthy
            backend.healthy = standing.healthy
            self._set_drained(backend, standing)
            changed.add(backend)
            if fell:
                fallen.append(backend)
        self._rules.standings_changed(changed, bool(self._sockets))
        for backend in fallen:
            self._origins.idle.close(backend)
            self._slices.start(self._move_away(backend))

    def _move_away(self, backend: Backend) -> Iterator[None]:
        """Whoever waits for its answer is asked to try another."""
        loop = self._loop
        loop.now = time.monotonic()
        for number, exchange in enumerate(line_of(backend), start=1):
            if exchange.asked_at != 0.0 and exchange.last_backend is backend and not backend.healthy:
                exchange.move()
            if number % MOVES == 0:
                yield
                loop.now = time.monotonic()
        if not loop.dispatching:
            loop.run_deferred()

    def watch_siblings(self, rows: Sequence[memoryview]) -> None:
        """The other workers' scoreboard rows, for algorithms that weigh load."""
        self._siblings = Siblings(rows, self._slices)
        self._siblings.watch(self._rules.weighed)

    def _set_drained(self, backend: Backend, standing: Standing) -> None:
        backend.drained = standing.drained
        backend.drain_until = FOREVER if standing.drain_until is None else standing.drain_until
        if standing.drained:
            self._drains.begin(backend.id, standing.drain_until)
            self._origins.idle.close(backend)
        else:
            self._drains.end(backend.id)

    def _end_drains(self, now: float) -> None:
        """Cut off what is left of drains whose time is over."""
        overdue = self._drains.overdue(now)
        if overdue:
            for protocol in self._clients():
                if protocol.backend_id() in overdue:
                    protocol.cut_off()
            self._loop.run_deferred()
            for handler in list(self._loop.handlers.values()):
                if isinstance(handler, BackendDatagrams):
                    if handler.flow.backend_id() in overdue:
                        handler.flow.leave_backend()
                elif isinstance(handler, StreamTransport):
                    side = handler.protocol  # its client is gone, and it takes the rest
                    if isinstance(side, BackendProtocol) and side.backend.id in overdue:
                        side.cut_off()
            self._loop.run_deferred()

    # -- listening ----------------------------------------------------------------------------

    def listen(self, listener_id: str, sockets: list[socket.socket]) -> None:
        """Accept on ``sockets`` too: bound, listening, non-blocking; ours from now on."""
        listener = self._listeners[listener_id]
        serving = self._sockets.setdefault(listener_id, [])
        for sock in sockets:
            serving.append(listener.serve(self._gate, sock))

    def stop_listening(self, listener_id: str | None = None) -> None:
        """Close our copies of one listener's sockets, or of all."""
        ids = list(self._sockets) if listener_id is None else [listener_id]
        for name in ids:
            for serving in self._sockets.pop(name, []):
                serving.stop()

    # -- running --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve what `listen` gave and gives us."""
        self._hosted.start(self._tick)

    def reopen_logs(self) -> None:
        """SIGHUP: the access log's file may have been moved away."""
        if self._access_log is not None:
            self._access_log.reopen()

    def _make_room(self) -> None:
        """The more clients, the fewer idle connections to backends."""
        idle = self._origins.idle
        idle.total_limit = self._share.idle(self._gate.open)
        excess = idle.total - idle.total_limit
        if excess > 0:
            idle.give_up(min(excess, GIVEN_UP), list(self._backends.values()))
            self._loop.run_deferred()

    def _tick(self) -> None:
        now = time.monotonic()
        if self._next_tick:
            self._board.lag(now, max(0.0, now - self._next_tick))
        self._next_tick = now + TICK
        self._board.gate(self._gate)
        drains = [self._backends[id] for id in self._drains.ids]
        self._board.flush(None if self._siblings.weigh() else drains)
        self._siblings.sweep()
        suspects = self._origins.suspects
        suspects.look(now)
        reports = suspects.take()
        if reports:
            self._report(reports)
        log = self._access_log
        if log is not None:
            log.flush(now)
            self._board.dropped(log.dropped)
            problem = log.take_problem()
            if problem:
                self.log.error("{problem}", problem=problem)
        self._end_drains(now)
        self._make_room()
        self._tell_failures()
        if self._stopping is not None:
            self._check_stopped(now)

    def _tell_failures(self) -> None:
        loop = self._loop
        failures = loop.failures + loop.wheel.failures
        if failures != self._failures_told:
            for why in (loop.last_failure, loop.wheel.last_failure):
                if why is not None:
                    self.log.failure(
                        "a connection was ended by a fault in txlb ({count} so far)",
                        Failure(why),
                        LogLevel.error,
                        count=failures,
                    )
            loop.last_failure = loop.wheel.last_failure = None
            self._failures_told = failures
        for pool in self._rules.pools.values():
            problem = pool.take_problem()
            if problem:
                self.log.error("rule {rule}: algorithm {problem}", rule=pool.rule_id, problem=problem)
        if self._contexts and self._loop.now >= self._next_look:
            self._next_look = self._loop.now + 1.0
            self._tell_tls_problems()

    def _tell_tls_problems(self) -> None:
        now = self._loop.now
        for backend in self._backends.values():
            origin = backend.secure
            problem = origin.take_problem(now) if origin is not None else ""
            if problem:
                self.log.warn("backend {id}: TLS: {problem}", id=backend.id, problem=problem)

    # -- ending ---------------------------------------------------------------------------------

    def shutdown(self, timeout: float) -> Deferred[None]:
        """Finish what is in flight; fires when all has ended, ``timeout`` seconds at most."""
        if self._stopping is None:
            self._stopping = Deferred()
            self._deadline = time.monotonic() + timeout
            self.stop_listening()
            for listener in self._listeners.values():
                listener.draining = True
            self._close_beginnings()
            for protocol in self._clients():
                protocol.drain()
            self._loop.run_deferred()
        return self._stopping

    def _close_beginnings(self) -> None:
        """Connections that have not told yet whose they are."""
        for handler in list(self._loop.handlers.values()):
            if isinstance(handler, Beginning):
                handler.close()
            elif isinstance(handler, Arrival):
                handler.fail(STOPPED)

    def _clients(self) -> list[ClientProtocol]:
        return [
            handler.protocol
            for handler in list(self._loop.handlers.values())
            if isinstance(handler, StreamTransport) and isinstance(handler.protocol, ClientProtocol)
        ]

    def _check_stopped(self, now: float) -> None:
        if (self._gate.open or self._gate.flows) and now < self._deadline:
            return
        self.abort()

    def abort(self) -> None:
        """Close everything now."""
        self.stop_listening()
        self._close_beginnings()
        self._gate.end_lingering()
        for protocol in self._clients():
            protocol.cut_off()
        self._loop.run_deferred()
        for backend in self._backends.values():
            self._origins.idle.close(backend)
        self._loop.run_deferred()
        for handler in list(self._loop.handlers.values()):
            if isinstance(handler, StreamTransport):
                handler.abortConnection()
        self._loop.run_deferred()
        self._rebuilds.stop()
        self._slices.stop()
        self._hosted.stop()
        self._board.gate(self._gate)
        self._board.flush_all()
        if self._access_log is not None:
            self._access_log.close()
        stopping = self._stopping
        if stopping is not None and not stopping.called:
            stopping.callback(None)

    def connections(self, after: int, limit: int) -> list[dict[str, object]]:
        """See `txlb.forwarding.connections`."""
        return client_connections(self._loop, after, limit, time.time())
