"""Random: any backend, each as often as its weight says, whatever was picked before.

Needs no memory and no agreement: many balancers in front of few backends do not fall into step. Source:
HAProxy's ``random(1)``, nginx's ``random``. Cost: O(1), with unequal weights O(log n); a rebuild is O(n).
"""

from __future__ import annotations

from typing import Any, Final, final

from txlb.core.algorithms.base import Algorithm, any_but
from txlb.core.algorithms.draw import WeightedDraw
from txlb.core.backend import Backend

DRAWS: Final = 8  # to get past tried backends


@final
class WeightedRandom(Algorithm):
    """See the module."""

    def __init__(self) -> None:
        Algorithm.__init__(self)
        self.trusted = True
        self._backends: list[Backend] = []
        self._draw = WeightedDraw([])

    def rebuild(self, backends: list[Backend]) -> None:
        self._backends = [backend for backend in backends if backend.weight > 0]
        self._draw = WeightedDraw(self._backends)

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        backends = self._backends
        if not backends:
            return None
        draw = self._draw
        index = draw.draw()
        backend = backends[index]
        if not tried:
            return backend
        for _ in range(DRAWS):
            if backend not in tried:
                return backend
            index = draw.draw()
            backend = backends[index]
        return any_but(backends, tried, index)
