"""Long work in slices of a few milliseconds, in turn with everything else that the reactor does.

Rules:

* `Slices.start` begins at once; what does not fit into the first slice goes on turn by turn.
* One slice lasts `SECONDS` and one step more; several pieces of work share it in turn. What is started just
  after a slice waits for its turn.
* Whoever may be stopped (`Slices.stop`, or the task alone) keeps nothing half done that matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.task import CooperativeTask, Cooperator

SECONDS = 0.002
PAUSE = 0.001  # between two slices: others' turn


class Slice:
    """True when it is over."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.end = clock() + SECONDS

    def __call__(self) -> bool:
        return self._clock() > self.end


class Slices:
    """All the long work of one process."""

    def __init__(self, reactor: Any) -> None:
        self._clock: Callable[[], float] = reactor.seconds
        self._last: Slice | None = None
        self._cooperator = Cooperator(lambda: Slice(self._clock), lambda turn: reactor.callLater(PAUSE, turn))

    def start(self, steps: Iterator[Any]) -> CooperativeTask[Any] | None:
        """Run ``steps`` to their end; None if that is reached already."""
        slice = self._last
        if slice is None or self._clock() > slice.end + PAUSE:
            slice = self._last = Slice(self._clock)
        while not slice():
            try:
                next(steps)
            except StopIteration:
                return None
        return self._cooperator.cooperate(steps)

    def stop(self) -> None:
        """Nothing goes on from now on."""
        self._cooperator.stop()
