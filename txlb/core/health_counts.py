"""What became of the probes: counts by result, how long they took, how late they began.

Plain counters; `txlb.control.metrics` shows them. Buckets are those of `txlb.core.latency`.
"""

from __future__ import annotations

from typing import Final, final

from txlb.core.latency import BUCKETS, bucket_of

SUCCESS: Final = 0
REFUSED: Final = 1
UNREACHABLE: Final = 2
TIMEOUT: Final = 3
CLOSED: Final = 4
MALFORMED: Final = 5
STATUS: Final = 6
FAILED: Final = 7
VOID: Final = 8

#: Labels of ``txlb_health_checks_total{result}``, by code.
RESULTS: Final = (
    "success",
    "refused",  # nobody listens there
    "unreachable",  # any other failure to connect
    "timeout",
    "closed",  # before the answer was whole
    "malformed",  # no well-formed answer
    "status",  # an answer with another status
    "failed",  # a probe of one's own said no; a TLS handshake failed
    "void",  # no descriptor or port of our own: says nothing
)


@final
class HealthCounts:
    """Totals over all backends since the start."""

    results: list[int]
    duration: list[int]
    duration_us: int
    lateness: list[int]
    lateness_us: int

    def __init__(self) -> None:
        self.results = [0] * len(RESULTS)
        self.duration = [0] * BUCKETS
        self.duration_us = 0
        self.lateness = [0] * BUCKETS
        self.lateness_us = 0

    def began(self, late: float) -> None:
        us = int(late * 1e6)
        self.lateness[bucket_of(us)] += 1
        self.lateness_us += us

    def ended(self, result: int, took: float) -> None:
        us = int(took * 1e6)
        self.results[result] += 1
        self.duration[bucket_of(us)] += 1
        self.duration_us += us

    def copy(self) -> HealthCounts:
        """As it is now: for a scrape that renders in a thread."""
        other = HealthCounts()
        other.results = list(self.results)
        other.duration = list(self.duration)
        other.duration_us = self.duration_us
        other.lateness = list(self.lateness)
        other.lateness_us = self.lateness_us
        return other
