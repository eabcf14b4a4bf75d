"""Two random choices: draw two backends by weight, take the better one.

Rules:

* What "better" means is the subclass's ``load``: lower is better, equal loads go to the one drawn first. So
  without any difference the weights alone decide.
* A full backend is worse than any other; of tried ones neither is taken.

Source: Mitzenmacher, "The power of two choices". Cost: O(1), with unequal weights O(log n), for two draws.
"""

from __future__ import annotations

from typing import Any, Final

from mypy_extensions import mypyc_attr

from txlb.core.algorithms.base import Algorithm, any_but
from txlb.core.algorithms.draw import WeightedDraw
from txlb.core.backend import Backend

DRAWS: Final = 4  # to get another backend the second time, and to get past tried ones


@mypyc_attr(allow_interpreted_subclasses=True)
class TwoChoices(Algorithm):
    """``always_two``: draw until the second is another one, though that favours light backends."""

    def __init__(self, always_two: bool) -> None:
        Algorithm.__init__(self)
        self.trusted = True
        self._always_two = always_two
        self._two = True
        self._backends: list[Backend] = []
        self._draw = WeightedDraw([])

    def rebuild(self, backends: list[Backend]) -> None:
        self._backends = [backend for backend in backends if backend.weight > 0]
        self._draw = WeightedDraw(self._backends)
        self._two = self._always_two or self._draw.uniform

    def load(self, index: int, context: Any) -> float:
        raise NotImplementedError

    def pick(self, context: Any, tried: list[Backend]) -> Backend | None:
        backends = self._backends
        if not backends:
            return None
        draw = self._draw
        first = 0
        for _ in range(DRAWS):
            first = draw.draw()
            second = draw.draw()
            if second == first and self._two:
                for _ in range(DRAWS):
                    second = draw.draw()
                    if second != first:
                        break
            if second != first and self._is_better(second, first, context):
                first, second = second, first
            backend = backends[first]
            if not tried or backend not in tried:
                return backend
            backend = backends[second]
            if backend not in tried:
                return backend
        return any_but(backends, tried, first)

    def _is_better(self, one: int, other: int, context: Any) -> bool:
        full = self._backends[one].is_full()
        if full or self._backends[other].is_full():
            return not full
        return self.load(one, context) < self.load(other, context)
