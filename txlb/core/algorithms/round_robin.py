"""Smooth weighted round robin: exact counts, evenly spaced, at a cost that does not grow with the backends.

Rules:

* In any run of Σweight picks each backend is picked exactly ``weight`` times (weights are divided by their
  common factor first), as long as no pick is refused.
* The order is earliest deadline first: pick ``k`` of a backend with weight ``w`` is due at (2k+1)/2w of the
  cycle, ties go to the backend named first. A3 B1 C2 gives A C A B C A; without C, A A B A.
* A cycle starts at a random place, or every rebuild in every worker would favour the backends named first.
* Weight 0 gets nothing.

Deadlines are integers scaled by 2**40. Two different deadlines are at least 1/(4·65535²) > 2**-34 apart, so
their order is exact. A short cycle is laid out once and walked by a cursor; a long one (many backends, odd
weights) is a heap of deadlines, one step of O(log n) per pick.
"""

from __future__ import annotations

from heapq import heapify, heapreplace
from math import gcd
from random import random
from typing import Any, Final, final

from txlb.core.algorithms.base import Algorithm
from txlb.core.backend import Backend

SCALE_BITS: Final = 40
LONGEST_CYCLE: Final = 8192  # laying out a longer one would take milliseconds
SKIPS: Final = 4  # steps along the cycle to get past tried backends


def due(k: int, weight: int) -> int:
    """When pick ``k`` of a backend is due, in 2**-40 of a cycle."""
    return ((2 * k + 1) << SCALE_BITS) // (2 * weight)


@final
class RoundRobin(Algorithm):
    """``start`` is the place in the cycle, 0 ≤ start < 1; a negative one means random."""

    def __init__(self, start: float = -1.0) -> None:
        Algorithm.__init__(self)
        self.trusted = True
        self._start = start
        self._backends: list[Backend] = []
        self._weights: list[int] = []
        self._cycle: list[Backend] = []  # empty: the heap is in use
        self._cursor = 0
        self._served: list[int] = []  # picks so far, by index
        self._heap: list[int] = []  # due * number of backends + index
        self._rotation = 0

    def rebuild(self, backends: list[Backend]) -> None:
        chosen = [backend for backend in backends if backend.weight > 0]
        factor = 0
        for backend in chosen:
            factor = gcd(factor, backend.weight)
        weights = [backend.weight // factor for backend in chosen]
        start = self._start if self._start >= 0.0 else random()
        self._backends = chosen
        self._weights = weights
        total = sum(weights)
        if total == len(chosen):
            self._cycle = chosen
            self._cursor = int(start * total)
        elif total <= LONGEST_CYCLE:
            self._lay_out(total)
            self._cursor = int(start * total)
        else:
            self._start_heap(int(start * (1 << SCALE_BITS)))

    def _lay_out(self, total: int) -> None:
        count = len(self._backends)
        keys: list[int] = []
        for index in range(count):
            weight = self._weights[index]
            for k in range(weight):
                keys.append(due(k, weight) * count + index)
        keys.sort()
        self._cycle = [self._backends[key % count] for key in keys]

    def _start_heap(self, start: int) -> None:
        count = len(self._backends)
        served: list[int] = []
        heap: list[int] = []
        for index in range(count):
            weight = self._weights[index]
            k = (start * weight) >> SCALE_BITS  # a pick or so early: corrected by the loop
            while due(k, weight) < start:
                k += 1
            served.append(k)
            heap.append(due(k, weight) * count + index)
        heapify(heap)
        self._served = served
        self._heap = heap

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        cycle = self._cycle
        size = len(cycle)
        if size:
            cursor = self._cursor
            backend = cycle[cursor]
            cursor += 1
            self._cursor = cursor if cursor < size else 0
            if not tried or backend not in tried:
                return backend
        elif not self._backends:
            return None
        elif not tried:
            return self._next_due()
        for _ in range(SKIPS):
            backend = self._next()
            if backend not in tried:
                return backend
        return self._any_but(tried)

    def _next(self) -> Backend:
        if not self._cycle:
            return self._next_due()
        cursor = self._cursor
        self._cursor = cursor + 1 if cursor + 1 < len(self._cycle) else 0
        return self._cycle[cursor]

    def _next_due(self) -> Backend:
        count = len(self._backends)
        index = self._heap[0] % count
        k = self._served[index] + 1
        self._served[index] = k
        heapreplace(self._heap, due(k, self._weights[index]) * count + index)
        return self._backends[index]

    def _any_but(self, tried: list[Backend]) -> Backend | None:
        """At most one look more than ``tried`` is long, whatever the weights are."""
        backends = self._backends
        count = len(backends)
        for _ in range(min(count, len(tried) + 1)):
            self._rotation = self._rotation + 1 if self._rotation + 1 < count else 0
            backend = backends[self._rotation]
            if backend not in tried:
                return backend
        return None
