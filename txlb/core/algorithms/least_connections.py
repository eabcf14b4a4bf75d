"""Least connections: the backend with the lowest (active + 1)/weight; equals take turns.

Rules:

* Counts are exact and this worker's own, over all rules that share a backend; what siblings hold is added
  when it is folded in (`txlb.core.backend.Backend.fold`).
* Full backends are passed over. Without any load, the heaviest come first until their weight is used up.
* Who is first among equals after a rebuild is random, or every worker would begin with the same one.

Source: HAProxy's ``leastconn`` and IPVS's shortest expected delay, with exact fractions. Cost: O(log n) per
pick and release (`txlb.core.algorithms.load_order`); a rebuild is O(n log n) in slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import random
from typing import Any, Final, final

from txlb.core.algorithms.base import Algorithm
from txlb.core.algorithms.load_order import LoadOrder
from txlb.core.backend import Backend

SLICE: Final = 500


@final
class LeastConnections(Algorithm):
    """``start`` says who is first among equals, 0 ≤ start < 1; a negative one means random."""

    def __init__(self, start: float = -1.0) -> None:
        Algorithm.__init__(self)
        self.trusted = True
        self._start = start
        self._order = LoadOrder()

    def rebuild(self, backends: list[Backend]) -> Iterator[None]:
        chosen = [backend for backend in backends if backend.weight > 0]
        count = len(chosen)
        first = int((self._start if self._start >= 0.0 else random()) * count)
        order = self._order
        for ticket in range(count):
            backend = chosen[(first + ticket) % count]
            if backend.weight > 0:  # that may have changed since the last slice
                order.add(backend, ticket)
            if ticket % SLICE == SLICE - 1:
                yield
        order.watch()

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        return self._order.take(tried)

    def retire(self) -> None:
        self._order.unwatch()
