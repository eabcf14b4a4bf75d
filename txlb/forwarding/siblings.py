"""What sibling workers hold, read from the scoreboard into our backends.

Rules:

* A sweep begins with every tick unless one is under way; it runs in slices. So a count is one tick and one
  sweep old at most.
* Only backends are read that have a ``max_connections``, or whose rule has an algorithm that weighs load
  (`txlb.core.algorithms.WEIGH_LOAD`), and only what changed is passed on (`txlb.core.backend.Backend.fold`).
* Who has no siblings does nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from txlb.core.backend import Backend
from txlb.core.scoreboard import BACKEND
from txlb.net.slices import Slices

SLICE = 250
ACTIVE = BACKEND.index("active")


class Siblings:
    """``rows``: the scoreboard rows of all workers but this one."""

    def __init__(self, rows: Sequence[memoryview], slices: Slices) -> None:
        self._rows = list(rows)
        self._slices = slices
        self._backends: list[Backend] = []
        self._sweeping = False

    def watch(self, backends: list[Backend]) -> None:
        """Those whose load somebody weighs; the others' is not known any more."""
        for gone in set(self._backends) - set(backends):
            if gone.elsewhere:
                gone.fold(0)
        self._backends = backends

    def weigh(self) -> bool:
        """There are siblings, and backends whose load they weigh as we do."""
        return bool(self._rows and self._backends)

    def sweep(self) -> None:
        """Begin to look at all of them."""
        if self.weigh() and not self._sweeping:
            self._sweeping = True
            self._slices.start(self._steps(self._backends))

    def _steps(self, backends: list[Backend]) -> Iterator[None]:
        rows = self._rows
        for start in range(0, len(backends), SLICE):
            if backends is not self._backends:
                break  # another generation: its columns may be others
            for backend in backends[start : start + SLICE]:
                column = backend.column + ACTIVE
                elsewhere = 0
                for row in rows:
                    elsewhere += row[column]
                if elsewhere != backend.elsewhere:
                    backend.fold(elsewhere)
            yield
        self._sweeping = False
