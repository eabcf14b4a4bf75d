"""Which `Health` comes next: records in the order of their ``due``.

Rules:

* A record has one entry that counts, the last one `put`; older ones are passed over when they come up. So
  moving a time earlier or later, or taking a record out (`drop`), costs no search.
* At most ``limit`` records come out at a time.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import final

from txlb.core.health import Health

Entry = tuple[float, int, int, Health]


@final
class Agenda:
    """A heap of records; any record is in one agenda at most."""

    entries: list[Entry]
    serial: int
    size: int

    def __init__(self) -> None:
        self.entries = []
        self.serial = 0
        self.size = 0  # as of the last clean-up

    def put(self, health: Health) -> None:
        """Have it come up at its ``due``, and then only."""
        health.turn += 1
        self.serial += 1
        heappush(self.entries, (health.due, self.serial, health.turn, health))
        if len(self.entries) > 2 * self.size + 1000:
            self._clean()

    def drop(self, health: Health) -> None:
        health.turn += 1

    def take(self, now: float, limit: int) -> list[Health]:
        """Those whose time has come, the longest waiting first; they are no longer in here."""
        taken: list[Health] = []
        entries = self.entries
        while entries and entries[0][0] <= now and len(taken) < limit:
            _, _, turn, health = heappop(entries)
            if health.turn == turn:
                health.turn += 1
                taken.append(health)
        return taken

    def _clean(self) -> None:
        self.entries = [entry for entry in self.entries if entry[3].turn == entry[2]]
        heapify(self.entries)
        self.size = len(self.entries)
