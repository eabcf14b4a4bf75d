"""Requests per second: the mean of the last `WINDOW` seconds, from a counter sampled once a second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

WINDOW = 10.0


class Rate:
    """Samples a counter; ``sample`` is to be called about once a second."""

    def __init__(self, count: Callable[[], int], clock: Callable[[], float]) -> None:
        self._count = count
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque([(clock(), count())])

    def sample(self) -> None:
        now = self._clock()
        self._samples.append((now, self._count()))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()

    def per_second(self) -> float:
        """The mean from the oldest sample kept until now; since the start if that is nearer."""
        then, count = self._samples[0]
        elapsed = self._clock() - then
        return max(0, self._count() - count) / elapsed if elapsed > 0 else 0.0
