"""Peak EWMA: of two backends drawn by weight, the one whose expected wait is lower.

Rules:

* The wait is latency × (active/weight + 1). Latency is how long leases lasted, as a moving average that a
  slow one raises at once (the peak) and quick ones lower within `DECAY` seconds.
* A failure counts as at least `PENALTY` seconds, or a backend that refuses quickly would draw the traffic. A
  client that left early can only raise the average. Nothing counts for more than `LONGEST`.
* Unused averages decay too, so that a backend that was slow is tried again. One that nobody has heard of
  yet gets one request at a time.
* The averages belong to the backend: they outlast rebuilds, and rules share them.

Leases of tunnels and long downloads say nothing of latency: least_connections suits these better. Source:
Finagle's ``PeakEwma``. Cost: as power_of_two, plus two exponentials; O(1) per release; a rebuild is O(n).
"""

from __future__ import annotations

from math import exp
from typing import Any, Final, final

from txlb.core import outcome as outcomes
from txlb.core.algorithms.two_choices import TwoChoices
from txlb.core.backend import Backend

DECAY: Final = 10.0
PENALTY: Final = 1.0
LONGEST: Final = 10.0
UNKNOWN: Final = 1e9  # the wait for a backend that is busy for the first time
STATE: Final = "peak_ewma"


@final
class Latency:
    """The average of one backend."""

    value: float  # seconds; 0.0 = not known
    at: float  # when that was

    def __init__(self) -> None:
        self.value = 0.0
        self.at = 0.0

    def seen(self, now: float) -> float:
        """The average, decayed until ``now``."""
        age = now - self.at
        return self.value * exp(-age / DECAY) if age > 0.0 else self.value

    def add(self, seconds: float, now: float) -> None:
        if seconds >= self.value:
            self.value = seconds
        else:
            kept = exp(-max(0.0, now - self.at) / DECAY)
            self.value = self.value * kept + seconds * (1.0 - kept)
        self.at = now


def latency_of(backend: Backend) -> Latency:
    """The average of ``backend``, kept among its ``state``."""
    found = backend.state.get(STATE)
    if not isinstance(found, Latency):
        found = Latency()
        backend.state[STATE] = found
    return found


@final
class PeakEwma(TwoChoices):
    """See the module."""

    def __init__(self) -> None:
        TwoChoices.__init__(self, False)
        self.observes = True
        self._latencies: list[Latency] = []

    def rebuild(self, backends: list[Backend]) -> None:
        TwoChoices.rebuild(self, backends)
        self._latencies = [latency_of(backend) for backend in self._backends]

    def load(self, index: int, context: Any) -> float:
        backend = self._backends[index]
        latency = self._latencies[index]
        active = (backend.active_connections + backend.elsewhere) / (backend.weight or 1)
        if latency.value == 0.0:
            return UNKNOWN + active if active > 0.0 else 0.0
        return latency.seen(context.now) * (active + 1.0)

    def observe_lease(self, backend: Backend, outcome: int, now: float, seconds: float) -> None:
        if outcome == outcomes.UNUSED:
            return
        latency = latency_of(backend)
        if outcomes.is_failure(outcome):
            seconds = max(seconds, PENALTY)
        elif outcome == outcomes.CLIENT_ABORT and seconds < latency.seen(now):
            return
        latency.add(min(seconds, LONGEST), now)
