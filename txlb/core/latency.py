"""The buckets of every latency histogram: 0.5 ms to 60 s, in microseconds.

Rules:

* Bucket ``i`` counts what took at most ``BOUNDS_US[i]`` and more than the bound before; the last bucket
  (``BUCKETS - 1``) has no bound.
* Counts are per bucket, not cumulative; whoever renders Prometheus text adds them up.
"""

from __future__ import annotations

from typing import Final

BOUNDS_US: Final = (
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
)
BUCKETS: Final = 17


def bucket_of(us: int) -> int:
    """The bucket of one duration: four comparisons, the short ones first."""
    if us <= 5_000:
        if us <= 1_000:
            return 0 if us <= 500 else 1
        return 2 if us <= 2_500 else 3
    if us <= 100_000:
        if us <= 25_000:
            return 4 if us <= 10_000 else 5
        return 6 if us <= 50_000 else 7
    if us <= 2_500_000:
        if us <= 500_000:
            return 8 if us <= 250_000 else 9
        return 10 if us <= 1_000_000 else 11
    if us <= 10_000_000:
        return 12 if us <= 5_000_000 else 13
    if us <= 30_000_000:
        return 14
    return 15 if us <= 60_000_000 else 16
