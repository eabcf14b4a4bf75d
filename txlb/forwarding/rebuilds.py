"""Fresh algorithms for pools whose backends changed: not too often, and never at a stretch.

Rules:

* A pool is rebuilt at once when something changed, but not within `PAUSE` seconds of the last time; what
  changes meanwhile, or during a rebuild, is one more rebuild when that time is over.
* A rebuild runs in slices (`txlb.net.slices`), however many backends there are.
* A pool that is forgotten is not rebuilt any more, not even to the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from twisted.internet.task import CooperativeTask

from txlb.core.pool import Pool
from txlb.net.slices import Slices

PAUSE = 0.05


class Rebuilds:
    """One worker's."""

    def __init__(self, reactor: Any, slices: Slices) -> None:
        self._reactor = reactor
        self._slices = slices
        self._wanted: dict[Pool, None] = {}  # a set in the order of asking
        self._begun: dict[Pool, float] = {}  # when it was last rebuilt
        self._running: dict[Pool, CooperativeTask[Any] | None] = {}
        self._call: Any = None  # for the first that waits

    def want(self, pools: Iterable[Pool]) -> None:
        """Something about their backends changed."""
        self._wanted.update(dict.fromkeys(pools))
        self._start()

    def forget(self, pool: Pool) -> None:
        """It is gone."""
        self._wanted.pop(pool, None)
        self._begun.pop(pool, None)
        task = self._running.pop(pool, None)
        if task is not None:
            task.stop()

    def stop(self) -> None:
        for pool in [*self._wanted, *self._running]:
            self.forget(pool)
        if self._call is not None and self._call.active():
            self._call.cancel()

    def _start(self) -> None:
        now = self._reactor.seconds()
        soonest = now + PAUSE
        waiting = False
        for pool in list(self._wanted):
            if pool in self._running or pool not in self._wanted:
                continue  # comes back here at its end; or did just now
            due = self._begun.get(pool, now - PAUSE) + PAUSE
            if due > now:
                waiting = True
                soonest = min(soonest, due)
                continue
            del self._wanted[pool]
            self._begun[pool] = now
            self._running[pool] = None
            task = self._slices.start(self._rebuild(pool))
            if task is not None:
                self._running[pool] = task
        if waiting and (self._call is None or not self._call.active()):
            self._call = self._reactor.callLater(soonest - now, self._start)

    def _rebuild(self, pool: Pool) -> Iterator[None]:
        yield from pool.rebuild_steps()
        del self._running[pool]
        if pool in self._wanted:
            self._start()
