"""When probes begin, how long they may take, and what their results make of a backend's health.

This is the part of health checks that happens 2,000 times a second, and so is compiled; what is checked and
how is `txlb.control.health`.

Rules:

* `Rounds.turn` ends the probes whose time is over, then starts those that are due: no more at once than its
  caller allows.
* Whoever sleeps until the next turn says until when (``planned``); what comes up before that is told at once
  (``on_earlier``). During a turn it is told by `next_due` only.
* Every start is counted with how late it was, every result with how long it took.
* A change of verdict is told (``on_verdict``) at once, from inside the result.
* A probe that cannot even be started, by a fault of ours, keeps nobody else from being probed; it is tried
  again an interval later, and `Rounds.turn` raises what it was in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, final

from mypy_extensions import mypyc_attr

from txlb.core import health_counts as results
from txlb.core.agenda import Agenda
from txlb.core.health import HEALTHY, Health
from txlb.core.health_counts import HealthCounts
from txlb.core.model import BackendSpec, HealthCheckSpec
from txlb.net.loop import Loop
from txlb.net.probing import Expected, ProbeReceiver, Probing

ALL: Final = 1 << 30


@mypyc_attr(allow_interpreted_subclasses=True)
class Prober:
    """What probes one backend."""

    def start(self, key: Any) -> Any:
        """Probe now: the attempt, which has ``expire`` and ``cancel``; ``key`` comes back with the result."""
        raise NotImplementedError


@final
class SocketProber(Prober):
    """``tcp`` and ``http``."""

    loop: Loop
    receiver: ProbeReceiver
    address: str
    port: int
    expected: Expected

    def __init__(
        self, loop: Loop, receiver: ProbeReceiver, address: str, port: int, expected: Expected
    ) -> None:
        self.loop = loop
        self.receiver = receiver
        self.address = address
        self.port = port
        self.expected = expected

    def start(self, key: Any) -> Any:
        attempt = Probing(self.loop, self.receiver, key, self.expected)
        attempt.begin(self.address, self.port)
        return attempt


@final
class Checked:
    """One backend under checks."""

    spec: BackendSpec
    check: HealthCheckSpec
    health: Health
    probe: Prober | None  # None: not probed
    deep: Prober | None  # in its place while the backend is not plainly healthy
    attempt: Any  # under way; None: none is

    def __init__(
        self, spec: BackendSpec, check: HealthCheckSpec, health: Health, probe: Prober | None
    ) -> None:
        self.spec = spec
        self.check = check
        self.health = health
        self.probe = probe
        self.deep = None
        self.attempt = None


@final
class Rounds(ProbeReceiver):
    """Backends under checks, by id, and their probes."""

    checked: dict[str, Checked]
    waiting: Agenda
    running: Agenda
    counts: HealthCounts
    clock: Any
    chance: Any
    planned: float  # when the next turn is; 0.0: nothing is earlier than that
    on_verdict: Any
    on_earlier: Any

    def __init__(
        self,
        clock: Callable[[], float],
        chance: Callable[[], float],
        on_verdict: Callable[[Checked, str], None],
        on_earlier: Callable[[float], None],
    ) -> None:
        """``chance`` gives numbers from 0 to 1; ``on_verdict`` gets the reason, "" for HEALTHY.

        ``on_earlier`` gets the moment of what is due before the turn that is planned.
        """
        super().__init__()
        self.checked = {}
        self.waiting = Agenda()
        self.running = Agenda()
        self.counts = HealthCounts()
        self.clock = clock
        self.chance = chance
        self.planned = 0.0
        self.on_verdict = on_verdict
        self.on_earlier = on_earlier

    def turn(self, limit: int, sockets: int) -> int:
        """End what takes too long; start what is due, ``limit`` at most and with ``sockets`` open at most.

        Returns how many were due.
        """
        self.planned = 0.0
        now: float = self.clock()
        for health in self.running.take(now, ALL):
            attempt = self.checked[health.id].attempt
            if attempt is not None:
                attempt.expire(health.due - health.started_at)
        fault: Exception | None = None
        due = self.waiting.take(now, min(limit, sockets - self.sockets))
        for health in due:
            try:
                self._begin(self.checked[health.id], now)
            except Exception as why:
                fault = why
                self.running.drop(health)
                health.probing = False
                health.due = now + health.interval
                self.put(health)
        if fault is not None:
            raise fault
        return len(due)

    def next_due(self, soon: float) -> float:
        """When the next probe begins or its time is over; ``soon`` or earlier: perhaps one is due by then."""
        due = self.waiting.next_due(soon)
        return due if due <= soon else min(due, self.running.next_due(soon))

    def put(self, health: Health) -> None:
        """Have it come up at its ``due``: a probe that is to begin, or the end of one under way."""
        (self.running if health.probing else self.waiting).put(health)
        if health.due < self.planned:
            self.on_earlier(health.due)

    def probed(self, key: Any, result: int, reason: str) -> None:
        checked: Checked = key
        checked.attempt = None
        health = checked.health
        now: float = self.clock()
        self.counts.ended(result, now - health.started_at)
        if result == results.VOID:
            health.void(now)
        elif health.finish(now, reason, self.chance()):
            self.on_verdict(checked, reason)
        self.put(health)

    def suspect(self, backend_ids: Iterable[str]) -> None:
        """Somebody doubts these backends: probe them now."""
        now: float = self.clock()
        for backend_id in backend_ids:
            checked = self.checked.get(backend_id)
            if checked is None or checked.probe is None:
                continue
            health = checked.health
            if checked.deep is not None and health.probing and health.state == HEALTHY:
                self.forget(checked)  # that probe asks too little
                health.due = now
                self.put(health)
            if health.suspect(now):
                self.put(health)

    def forget(self, checked: Checked) -> None:
        """No probe of it from now on."""
        self.waiting.drop(checked.health)
        attempt = checked.attempt
        checked.attempt = None
        checked.health.probing = False
        if attempt is not None:
            attempt.cancel()

    def _begin(self, checked: Checked, now: float) -> None:
        health = checked.health
        probe = checked.probe if health.state == HEALTHY or checked.deep is None else checked.deep
        assert probe is not None
        self.counts.began(now - health.due)
        health.begin(now)
        self.put(health)
        attempt = probe.start(checked)
        if health.probing:  # one of one's own may be done already
            checked.attempt = attempt
