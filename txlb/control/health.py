"""Health checks: which backend is probed when, and what everybody is told of the results.

Rules:

* A turn ends the probes whose time is over and starts those that are due: at most `BATCH` at once, and no
  more at a time than ``health_check.concurrency``.
* Where workers share the processor (``pause``) probes start in groups of `GROUP`, with a pause between two.
* The next turn is when something is due, and while nothing is there is none. What makes something due earlier
  moves it. Turns are `TICK` seconds apart at least (one that is late does not put off the next): as far as
  many backends, or what a turn left over, keep them busy, there is one every `TICK`.
* The loop that probes run on looks at its deadlines in every turn, and every `IDLE_TICK` besides. None of
  them ends a probe: they bound how long a connection stays that has served its purpose. What the loop defers
  is done at once.
* A change of verdict is told at once (``on_verdict``); the log gets it within `TICK`: the first `LINES` of a
  turn and a count.
* What workers suspect is probed now (`suspect`); only the probe's result takes a backend out.
* Across reloads a backend keeps its health while its id, host, port and TLS stay; elsewhere it starts afresh.
* 10,000 backends are taken over in slices of at most `SLICE` seconds a turn; where nearly all stay as they
  are, only the others are looked at.
* A TCP connect does not show a hang: the kernel accepts for a program that is stuck. So a backend of HTTP
  rules that says nothing of its check is asked for a `sign_of_life` while it is not plainly HEALTHY.
* Not probed: ``off``, which is HEALTHY, and a name without address, which is not. Nor is a backend that only
  UDP listeners use, unless it says how: it need not listen on TCP.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from OpenSSL import SSL
from twisted.logger import Logger

from txlb.config.health import own_probe
from txlb.control.checked import HealthView, only_over_udp, over_http, place
from txlb.control.probes import OwnProbe, expected_of, preface_to, sign_of_life
from txlb.control.tls_probes import TlsProbe
from txlb.core.agenda import NEVER
from txlb.core.health import Health
from txlb.core.health_counts import HealthCounts
from txlb.core.model import BackendSpec, BackendTlsSpec, HealthCheckSpec, OwnCheckSpec, Snapshot
from txlb.net.hosting import HostedLoop
from txlb.net.loop import Loop
from txlb.net.probing import Expected, Probing
from txlb.net.rounds import Checked, Prober, Rounds, SocketProber
from txlb.net.scheduling import GROUP
from txlb.net.stream import StreamTransport
from txlb.net.tls_origin import TlsOrigin, client_context

TICK = 0.02
IDLE_TICK = 1.0
BATCH = 200
SLICE = 0.005
LINES = 10

#: How all are checked, and ids: of those only UDP listeners use, of those HTTP listeners use.
Taken = tuple[HealthCheckSpec, set[str], set[str]]


class HealthChecks:
    """The health checks of all backends."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        on_verdict: Callable[[str, bool], None],
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        pause: Callable[[], None] | None = None,
    ) -> None:
        """``pause`` lets others have the processor for a moment; None: there are none to be thought of."""
        self._reactor = reactor
        self._hosted: HostedLoop | None = None  # between `start` and `stop`
        self._on_verdict = on_verdict
        self._clock = clock
        self._chance = chance
        self._pause = pause
        self._rounds = Rounds(clock, chance, self._verdict, self._hasten)
        self._limit = 1
        self._contexts: dict[BackendTlsSpec, Any] = {}
        self._own: dict[tuple[str, tuple[Any, ...]], Any] = {}
        self._taking_over: Iterator[None] | None = None  # what is left of it
        self._taken: Taken | None = None  # what the last one to be taken over whole was made for
        self._down: set[str] = set()  # ids of those that are not healthy
        self._verdicts: list[tuple[str, bool, str]] = []  # that the log has not got
        self._last = 0.0  # when the last turn was
        self._call: Any = None  # of the next one, between `start` and `stop`, unless nothing is to come

    @property
    def counts(self) -> HealthCounts:
        """Of all probes since the start."""
        return self._rounds.counts

    @property
    def sockets(self) -> int:
        """Descriptors of probes that are open."""
        return self._rounds.sockets

    def start(self) -> None:
        self._hosted = HostedLoop(self._reactor, pause=self._pause)
        self._hosted.start(lambda: None, IDLE_TICK)
        self._rounds.planned = NEVER

    def stop(self) -> None:
        """No more probes, and no descriptor of theirs."""
        self._rounds.planned = 0.0
        if self._call is not None:
            self._call.cancel()
            self._call = None
        self._taking_over = None
        self._taken = None
        for checked in self._rounds.checked.values():
            self._rounds.forget(checked)
        self._rounds.checked.clear()
        hosted, self._hosted = self._hosted, None
        if hosted is not None:
            for handler in list(hosted.loop.handlers.values()):
                if isinstance(handler, Probing):
                    handler.cancel()
                elif isinstance(handler, StreamTransport):
                    handler.abortConnection()
            hosted.loop.run_deferred()
            hosted.stop()

    def apply(self, snapshot: Snapshot) -> None:
        """Check these backends from now on."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = max(1, min(snapshot.health_check_concurrency, descriptors // 2))
        self._taking_over = self._take_over(snapshot)
        self._go_on_taking_over()
        self._run_deferred()
        if self._taking_over is not None:
            self._hasten(self._clock() + TICK)

    def suspect(self, backend_ids: Iterable[str]) -> None:
        """Workers doubt these backends."""
        self._rounds.suspect(backend_ids)
        self._run_deferred()

    def is_healthy(self, backend_id: str) -> bool:
        return backend_id not in self._down

    def down(self) -> frozenset[str]:
        """Ids of all that are not healthy."""
        return frozenset(self._down)

    def view(self, backend_id: str) -> HealthView:
        checked = self._rounds.checked.get(backend_id)
        if checked is None:
            return HealthView()
        health = checked.health
        reason = health.last_reason if checked.spec.address else f"{checked.spec.host} does not resolve"
        offset = time.time() - self._clock()  # once: equal moments are equal dates
        return HealthView(
            self.is_healthy(backend_id),
            health.consecutive_failures,
            health.max_consecutive_failures,
            _date(health.last_check_at, offset),
            _date(health.last_success_at, offset),
            reason or None,
        )

    def _verdict(self, checked: Checked, reason: str) -> None:
        self._verdicts.append((checked.spec.id, checked.health.is_healthy(), reason))
        self._note(checked)
        self._hasten(self._clock() + TICK)

    def _hasten(self, due: float) -> None:
        """Have the next turn then at the latest, or as soon as there may be one."""
        due = max(due, self._last + TICK)
        if due >= self._rounds.planned:
            return
        self._rounds.planned = due
        delay = max(0.0, due - self._clock())
        if self._call is None:
            self._call = self._reactor.callLater(delay, self._turn)
        else:
            self._call.reset(delay)

    def _turn(self) -> None:
        self._call = None
        now = self._clock()
        self._last = min(now, max(self._rounds.planned, now - TICK))
        try:
            try:
                self._start_probes()
                self._go_on_taking_over()
            finally:
                if self._hosted is not None:
                    self._hosted.loop.tick()
        except Exception:
            self.log.failure("a turn of the health checks failed")
        if self._verdicts:
            self._tell_log()
        if self._hosted is None:  # who heard a verdict stopped us
            return
        soon = self._last + TICK
        due = soon if self._taking_over is not None else self._rounds.next_due(soon)
        self._rounds.planned = NEVER
        if due < NEVER:
            self._hasten(due)

    def _start_probes(self) -> None:
        group = BATCH if self._pause is None else GROUP
        for _ in range(BATCH // group):
            if self._rounds.turn(group, self._limit) < group:
                return
            if self._pause is not None:
                self._pause()

    def _run_deferred(self) -> None:
        if self._hosted is not None:
            self._hosted.loop.run_deferred()

    def _go_on_taking_over(self) -> None:
        if self._taking_over is None:
            return
        until = self._clock() + SLICE
        for _ in self._taking_over:
            if self._clock() >= until:
                return
        self._taking_over = None

    def _take_over(self, snapshot: Snapshot) -> Iterator[None]:
        checks: dict[tuple[OwnCheckSpec, bool], HealthCheckSpec] = {}
        silent = only_over_udp(snapshot)
        spoken = over_http(snapshot)
        unchecked = replace(snapshot.health_check, type="off")
        taken, self._taken = self._taken, None
        now = (snapshot.health_check, silent, spoken)
        for count, spec in enumerate(self._others(snapshot, taken, now)):
            kind = (spec.health_check, spec.tls is not None)
            check = checks.get(kind)
            if check is None:
                check = checks[kind] = spec.health_check.over(snapshot.health_check, kind[1])
            if spec.id in silent and spec.health_check.type is spec.health_check.path is None:
                check = unchecked
            known = self._rounds.checked.get(spec.id)
            if known is None:
                self._admit(spec, check)
            elif known.spec != spec or known.check != check:
                self._change(known, spec, check)
            else:
                known.spec = spec
            self._deepen(self._rounds.checked[spec.id], spec.id in spoken)
            if count % 50 == 49:
                yield
        left = self._rounds.checked.keys() - {spec.id for spec in snapshot.backends}
        for backend_id in left:
            self._rounds.forget(self._rounds.checked.pop(backend_id))
            self._down.discard(backend_id)
        if self._own:
            for key in self._own.keys() - {_own_key(one.check) for one in self._rounds.checked.values()}:
                del self._own[key]
        if self._contexts:
            for tls in self._contexts.keys() - {spec.tls or BackendTlsSpec() for spec in snapshot.backends}:
                del self._contexts[tls]
        self._taken = now

    def _others(self, snapshot: Snapshot, taken: Taken | None, now: Taken) -> Sequence[BackendSpec]:
        """Those that may not be checked as this snapshot says."""
        if taken is None or taken[0] != now[0]:
            return snapshot.backends
        checked = self._rounds.checked
        used_otherwise = (taken[1] ^ now[1]) | (taken[2] ^ now[2])
        return [
            spec
            for spec in snapshot.backends
            if spec.id not in checked or checked[spec.id].spec is not spec or spec.id in used_otherwise
        ]

    def _admit(self, spec: BackendSpec, check: HealthCheckSpec) -> None:
        health = Health(
            spec.id, check.interval, check.timeout, check.rise, check.fall, self._clock(), self._chance()
        )
        checked = self._rounds.checked[spec.id] = Checked(spec, check, health, self._probe_of(spec, check))
        self._note(checked)
        if checked.probe is not None:
            self._rounds.put(health)

    def _change(self, checked: Checked, spec: BackendSpec, check: HealthCheckSpec) -> None:
        old, health, now = checked.spec, checked.health, self._clock()
        if place(old) != place(spec) or check.type == "off":
            self._rounds.forget(checked)
            self._admit(spec, check)
            return
        same = checked.check == check
        checked.spec, checked.check = spec, check
        self._note(checked)
        if same and replace(old, weight=spec.weight, max_connections=spec.max_connections) == spec:
            return  # nothing that a check has to do with
        health.configure(check.interval, check.timeout, check.rise, check.fall, now)
        checked.probe = self._probe_of(spec, check)
        checked.deep = None
        if checked.probe is None:
            self._rounds.forget(checked)
        elif not health.probing:
            health.due = min(health.due, now + self._chance() * min(check.interval, 1.0))
            self._rounds.put(health)

    def _deepen(self, checked: Checked, speaks_http: bool) -> None:
        """Give it a question for times of doubt, or take it away."""
        spec, own = checked.spec, checked.spec.health_check
        if not speaks_http or checked.probe is None or own.type is not None or own.path is not None:
            checked.deep = None
        elif checked.deep is None:
            assert self._hosted is not None
            checked.deep = (
                self._socket_prober(self._hosted.loop, spec, sign_of_life(spec))
                if spec.tls is None
                else self._tls_probe(self._hosted.loop, spec, sign_of_life(spec))
            )

    def _note(self, checked: Checked) -> None:
        """Tell what is new of it, if anything is."""
        backend_id = checked.spec.id
        healthy = checked.health.is_healthy() and bool(checked.spec.address)
        if healthy != (backend_id not in self._down):
            (self._down.discard if healthy else self._down.add)(backend_id)
            self._on_verdict(backend_id, healthy)

    def _probe_of(self, spec: BackendSpec, check: HealthCheckSpec) -> Prober | None:
        if check.type == "off" or not spec.address:
            return None
        if ":" not in check.type:
            assert self._hosted is not None
            if check.type == "https":
                return self._tls_probe(self._hosted.loop, spec, expected_of(spec, check))
            return self._socket_prober(self._hosted.loop, spec, expected_of(spec, check))
        key = _own_key(check)
        if key not in self._own:
            try:
                self._own[key] = own_probe(check.type, check.options)
            except ValueError as error:  # it could be made when the configuration was checked
                self.log.error("{id} is not checked: {error}", id=spec.id, error=error)
                return None
        return OwnProbe(self._rounds, self._own[key], spec)

    def _socket_prober(self, loop: Loop, spec: BackendSpec, expected: Expected) -> Prober:
        return SocketProber(loop, self._rounds, spec.address, spec.port, expected)

    def _tls_probe(self, loop: Loop, spec: BackendSpec, expected: Expected) -> Prober | None:
        tls = spec.tls or BackendTlsSpec()
        try:
            if tls not in self._contexts:
                self._contexts[tls] = client_context(tls)
            origin = TlsOrigin(tls, spec.host, self._contexts[tls])
        except (SSL.Error, ValueError) as error:  # it was fine when the configuration was checked
            self.log.error("{id} is not checked: {error}", id=spec.id, error=error)
            return None
        address = (spec.address, spec.port)
        return TlsProbe(loop, self._rounds, address, origin, expected, preface_to(spec))

    def _tell_log(self) -> None:
        verdicts, self._verdicts = self._verdicts, []
        for backend_id, healthy, reason in verdicts[:LINES]:
            if healthy:
                self.log.info("backend {id} is HEALTHY", id=backend_id)
            else:
                self.log.warn("backend {id} is UNHEALTHY: {reason}", id=backend_id, reason=reason)
        if len(verdicts) > LINES:
            up = sum(healthy for _, healthy, _ in verdicts[LINES:])
            self.log.warn(
                "and {down} more backends are UNHEALTHY, {up} more HEALTHY",
                down=len(verdicts) - LINES - up, up=up,
            )  # fmt: skip


def _date(at: float, offset: float) -> str | None:
    """The time of day at ``at``, a moment of the monotonic clock; None if there was none."""
    if not at:
        return None
    return datetime.fromtimestamp(at + offset, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _own_key(check: HealthCheckSpec) -> tuple[str, tuple[Any, ...]]:
    return check.type, check.options
