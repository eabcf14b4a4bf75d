"""Drawing backends at random, each as often as its weight says.

Cost: O(1) where all weights are equal, else O(log n) in C; O(n) to set up.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from random import random
from typing import final

from txlb.core.backend import Backend


@final
class WeightedDraw:
    """Indices of ``backends``, none of which has weight 0."""

    _count: int
    _total: float
    _bounds: list[float]  # empty: all weights are equal
    uniform: bool

    def __init__(self, backends: list[Backend]) -> None:
        weights = [float(backend.weight) for backend in backends]
        self._count = len(weights)
        self._total = sum(weights)
        self.uniform = len(set(weights)) <= 1
        self._bounds = [] if self.uniform else list(accumulate(weights))

    def draw(self) -> int:
        """One of the indices; there must be one."""
        if self.uniform:
            index = int(random() * self._count)
        else:
            index = bisect_right(self._bounds, random() * self._total)
        return index if index < self._count else self._count - 1  # rounded up
