"""Whether a backend is well: the state machine behind its probes.

Rules:

* A backend starts HEALTHY. Its first probe is due within ``min(interval, FIRST)`` seconds, the next ones
  every ``interval``, give or take `JITTER`.
* ``fall`` failed probes in a row make it UNHEALTHY, ``rise`` good ones HEALTHY again. A suspicion of the
  forwarding plane counts as one failure if the next probe fails, and as nothing if it is good.
* In doubt (a failure while HEALTHY, a success while UNHEALTHY, a suspicion) the next probe is due `QUICK`
  after the last one began. While the doubt is about a HEALTHY backend a probe gets only its ``patience``: a
  few times what this backend's good probes take lately, at least `SHORT`. What is taken for usual at most
  doubles from one probe to the next, also at the start, when everything is slow; it is not
  learnt from a backend that is down: one that was stopped and goes on answers its probes of that time at
  last, very late.
* After the fall the pauses double from `QUICK` to ``interval``, so that a restart is soon noticed.
* Suspicions cause at most one probe per `QUICK`, however many there are.
* What happens in which state is `TABLE`; docs/health.md draws it.
"""

from __future__ import annotations

from typing import Final, final

FIRST: Final = 1.0
QUICK: Final = 0.1
SHORT: Final = 0.2  # the shortest patience
JITTER: Final = 0.1  # share of the interval
PATIENCE: Final = 4.0  # times the usual duration
FADE: Final = 0.9  # of the usual duration, per good probe

# States
HEALTHY: Final = 0
DOUBTED: Final = 1
UNHEALTHY: Final = 2
RECOVERING: Final = 3
STATES: Final = ("HEALTHY", "DOUBTED", "UNHEALTHY", "RECOVERING")

# Events
GOOD: Final = 0
BAD: Final = 1
RISEN: Final = 2  # a good probe that makes `rise` in a row
FALLEN: Final = 3  # a bad one that makes `fall`
SUSPECTED: Final = 4
EVENTS: Final = ("good", "bad", "good for the `rise`th time", "bad for the `fall`th time", "suspected")

#: By state, then event. UNHEALTHY and RECOVERING never fall and HEALTHY and DOUBTED never rise: those cells
#: say where such a backend is already.
TABLE: Final = (
    (HEALTHY, DOUBTED, HEALTHY, UNHEALTHY, DOUBTED),
    (HEALTHY, DOUBTED, HEALTHY, UNHEALTHY, DOUBTED),
    (RECOVERING, UNHEALTHY, HEALTHY, UNHEALTHY, UNHEALTHY),
    (RECOVERING, UNHEALTHY, HEALTHY, UNHEALTHY, RECOVERING),
)


@final
class Health:
    """One backend's record. Whoever probes calls `begin`, then `finish` (or `void`); times are monotonic."""

    __slots__ = (
        "checks",
        "consecutive_failures",
        "consecutive_successes",
        "due",
        "fall",
        "id",
        "interval",
        "last_check_at",
        "last_reason",
        "last_success_at",
        "max_consecutive_failures",
        "probing",
        "rise",
        "started_at",
        "state",
        "suspected",
        "timeout",
        "turn",
        "usual",
    )
    id: str
    interval: float
    timeout: float
    rise: int
    fall: int
    state: int
    suspected: bool
    consecutive_failures: int
    consecutive_successes: int
    max_consecutive_failures: int
    checks: int
    probing: bool
    started_at: float  # of the last probe; 0.0 before the first
    due: float  # while probing: when the probe's time is over; else when the next one begins
    last_check_at: float  # when the last probe ended; 0.0 before the first
    last_success_at: float
    last_reason: str  # why the last probe failed; "" if it did not
    usual: float  # what good probes take lately
    turn: int  # `txlb.core.agenda`: which of its entries counts

    def __init__(
        self, id: str, interval: float, timeout: float, rise: int, fall: int, now: float, phase: float
    ) -> None:
        """``phase`` (0 to 1) spreads the first probes of many backends."""
        self.id = id
        self.interval = interval
        self.timeout = timeout
        self.rise = rise
        self.fall = fall
        self.state = HEALTHY
        self.suspected = False
        self.consecutive_failures = 0
        self.consecutive_successes = 0
        self.max_consecutive_failures = 0
        self.checks = 0
        self.probing = False
        self.started_at = 0.0
        self.due = now + phase * min(interval, FIRST)
        self.last_check_at = 0.0
        self.last_success_at = 0.0
        self.last_reason = ""
        self.usual = 0.0
        self.turn = 0

    def is_healthy(self) -> bool:
        return self.state <= DOUBTED

    def patience(self) -> float:
        """How long the next probe may take."""
        if self.state != DOUBTED:
            return self.timeout
        return min(self.timeout, max(SHORT, PATIENCE * self.usual))

    def configure(self, interval: float, timeout: float, rise: int, fall: int, now: float) -> None:
        """Other numbers from now on; what was observed stays."""
        self.interval = interval
        self.timeout = timeout
        self.rise = rise
        self.fall = fall
        if not self.probing:
            self.due = min(self.due, now + interval)

    def begin(self, now: float) -> None:
        """A probe starts; ``due`` is when its time is over."""
        self.probing = True
        self.started_at = now
        self.due = now + self.patience()

    def finish(self, now: float, reason: str, fraction: float) -> bool:
        """The probe ended, well if ``reason`` is ""; whether the verdict changed.

        ``fraction``: any number from 0 to 1, for the jitter.
        """
        was_healthy = self.state <= DOUBTED
        self.probing = False
        self.checks += 1
        self.last_check_at = now
        self.last_reason = reason
        if reason:
            self.consecutive_successes = 0
            self.consecutive_failures += 2 if self.suspected and was_healthy else 1
            if self.consecutive_failures > self.max_consecutive_failures:
                self.max_consecutive_failures = self.consecutive_failures
            event = FALLEN if self.consecutive_failures >= self.fall else BAD
        else:
            took = now - self.started_at
            if was_healthy:
                took = min(took, max(2.0 * self.usual, SHORT / PATIENCE))
                self.usual = max(took, self.usual * FADE)
            self.last_success_at = now
            self.consecutive_failures = 0
            self.consecutive_successes += 1
            event = RISEN if self.consecutive_successes >= self.rise else GOOD
        self.suspected = False
        self.state = TABLE[self.state][event]
        self.due = max(now, self.started_at + self._pause(fraction))
        return (self.state <= DOUBTED) != was_healthy

    def void(self, now: float) -> None:
        """The probe could not be made, for want of something of our own: it says nothing, try again soon."""
        self.probing = False
        self.due = now + QUICK

    def suspect(self, now: float) -> bool:
        """Traffic says that something is wrong; whether ``due`` moved."""
        self.state = TABLE[self.state][SUSPECTED]
        if self.state != DOUBTED:
            return False  # probed for its recovery as it is
        self.suspected = True
        before = self.due
        if self.probing:
            self.due = min(self.due, now + self.patience())
        else:
            self.due = min(self.due, max(now, self.started_at + QUICK))
        return self.due != before

    def _pause(self, fraction: float) -> float:
        """From the start of one probe to the start of the next."""
        if self.state == HEALTHY:
            if self.checks == 1:  # from all within `FIRST` to all over the interval
                return self.interval * max(fraction, JITTER)
            return self.interval * (1.0 + JITTER * (2.0 * fraction - 1.0))
        if self.state == UNHEALTHY:
            beyond = min(max(self.consecutive_failures - self.fall, 0), 30)
            pause = QUICK * float(1 << beyond)
            if pause < self.interval:
                return pause
            return self.interval * (1.0 + JITTER * (2.0 * fraction - 1.0))
        return min(self.interval, QUICK)
