"""Counts of answers: what a backend and a rule have in common.

Rules:

* Plain native integers, added to in the data path; the plane copies them to the scoreboard on its tick.
* Counters only grow (`restore` sets them once, when a worker takes over its predecessor's row).
* ``touched`` means: something changed since the last flush; whoever flushes clears it. The first
  `touch` after that enters it in the ``ledger``, so a flush costs by traffic, not by the number of things.
"""

from __future__ import annotations

from collections.abc import Sequence

from txlb.core.latency import BUCKETS


class Answers:
    """Answers by class of status code, and how long they took."""

    __slots__ = (
        "code_1xx",
        "code_2xx",
        "code_3xx",
        "code_4xx",
        "code_5xx",
        "column",
        "latency_0",
        "latency_1",
        "latency_2",
        "latency_sum_us",
        "ledger",
        "requests",
        "slow",
        "touched",
    )
    requests: int
    code_1xx: int
    code_2xx: int
    code_3xx: int
    code_4xx: int
    code_5xx: int
    latency_0: int  # counts of the first buckets of txlb.core.latency
    latency_1: int
    latency_2: int
    slow: list[int] | None  # and of all buckets, where only those from index 3 count; None = none so far
    latency_sum_us: int
    column: int  # where the scoreboard keeps this thing's block; -1 = nowhere yet
    touched: bool
    ledger: list[Answers] | None  # whoever flushes looks there; None = nobody does

    def __init__(self) -> None:
        self.requests = 0
        self.code_1xx = 0
        self.code_2xx = 0
        self.code_3xx = 0
        self.code_4xx = 0
        self.code_5xx = 0
        self.latency_0 = 0
        self.latency_1 = 0
        self.latency_2 = 0
        self.slow = None
        self.latency_sum_us = 0
        self.column = -1
        self.touched = True
        self.ledger = None

    def touch(self) -> None:
        """Something changed."""
        if not self.touched:
            self.touched = True
            ledger = self.ledger
            if ledger is not None:
                ledger.append(self)

    @property
    def latency(self) -> list[int]:
        """Counts per bucket of `txlb.core.latency`."""
        slow = self.slow or [0] * BUCKETS
        return [self.latency_0, self.latency_1, self.latency_2, *slow[3:]]

    def count_answer(self, status: int, us: int, bucket: int) -> None:
        """One final answer: its status code, its duration and that duration's `latency.bucket_of`."""
        # Small ones are native integers: a list would make an object of every count.
        if bucket == 0:
            self.latency_0 += 1
        elif bucket == 1:
            self.latency_1 += 1
        elif bucket == 2:
            self.latency_2 += 1
        else:
            slow = self.slow
            if slow is None:
                slow = self.slow = [0] * BUCKETS
            slow[bucket] += 1
        self.latency_sum_us += us
        self.count_code(status)

    def count_code(self, status: int) -> None:
        """One final answer of which only the status code is kept."""
        if status < 300:
            if status >= 200:
                self.code_2xx += 1
            else:
                self.code_1xx += 1
        elif status < 400:
            self.code_3xx += 1
        elif status < 500:
            self.code_4xx += 1
        else:
            self.code_5xx += 1
        if not self.touched:
            self.touch()

    def restore(
        self, requests: int, codes: Sequence[int], latency: Sequence[int], latency_sum_us: int
    ) -> None:
        """Go on from a predecessor's counts."""
        self.requests = requests
        self.code_1xx, self.code_2xx, self.code_3xx, self.code_4xx, self.code_5xx = codes
        self.latency_0, self.latency_1, self.latency_2 = latency[0], latency[1], latency[2]
        self.slow = list(latency) if any(latency[3:]) else None
        self.latency_sum_us = latency_sum_us
