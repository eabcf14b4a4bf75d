"""Which `Health` comes next: records by their ``due``, in slots of `SLOT` seconds.

Rules:

* A record has one entry that counts, the last one `put`; older ones are passed over when they come up. So
  moving a time earlier or later, or taking a record out (`drop`), costs no search.
* At most ``limit`` records come out at a time, and none before it is due: the longest waiting first, but
  within a slot in the order in which they were put.
* Putting and taking cost the same however many records there are: a heap of 10,000 cost four microseconds.
* When the next record is due is known exactly if that is worth sleeping for (`next_due`). Entries that do not
  count wake nobody up for that, and no call looks at more than `AHEAD` slots: after a gap as long as all of
  them it says when to look again.
"""

from __future__ import annotations

from typing import Final, final

from txlb.core.health import Health

SLOT: Final = 0.02
AHEAD: Final = 500
NEVER: Final = float("inf")

Entry = tuple[int, Health]  # which of its entries this is


@final
class Agenda:
    """Slots of records, by their number since time 0; any record is in one agenda at most."""

    slots: dict[int, list[Entry]]
    first: int  # no slot before it has an entry
    count: int  # entries, those that do not count too
    size: int  # as of the last clean-up

    def __init__(self) -> None:
        self.slots = {}
        self.first = 0
        self.count = 0
        self.size = 0

    def put(self, health: Health) -> None:
        """Have it come up at its ``due``, and then only."""
        health.turn += 1
        number = int(health.due / SLOT)
        if not self.count or number < self.first:
            self.first = number
        entries = self.slots.get(number)
        if entries is None:
            self.slots[number] = [(health.turn, health)]
        else:
            entries.append((health.turn, health))
        self.count += 1
        if self.count > 2 * self.size + 1000:
            self._clean()

    def drop(self, health: Health) -> None:
        health.turn += 1

    def take(self, now: float, limit: int) -> list[Health]:
        """Those whose time has come; they are no longer in here."""
        taken: list[Health] = []
        current = int(now / SLOT)
        while self.count and self.first <= current and len(taken) < limit:
            entries = self.slots.pop(self.first, None)
            if entries is not None:
                self.count -= len(entries)
                left = self._take(entries, now, limit, taken)
                if left:
                    self.slots[self.first] = left
                    self.count += len(left)
                    break
            self.first += 1
        return taken

    def next_due(self, soon: float) -> float:
        """No record is due before that; ``soon`` or earlier: perhaps one is by then."""
        for _ in range(AHEAD):
            if not self.count:
                return NEVER
            entries = self.slots.get(self.first)
            if entries is not None:
                start = self.first * SLOT
                if start <= soon:
                    return start  # no need to look at many entries, as there may be then
                due = self._earliest(entries)
                if due < NEVER:
                    return due
            self.first += 1
        return self.first * SLOT

    def _earliest(self, entries: list[Entry]) -> float:
        """Of the first slot, which keeps only those that count."""
        due = NEVER
        left: list[Entry] = []
        for entry in entries:
            turn, health = entry
            if health.turn == turn:
                left.append(entry)
                due = min(due, health.due)
        self.count -= len(entries) - len(left)
        if left:
            self.slots[self.first] = left
        else:
            del self.slots[self.first]
        return due

    def _take(self, entries: list[Entry], now: float, limit: int, taken: list[Health]) -> list[Entry]:
        """From one slot to ``taken``; what is left of the slot."""
        left: list[Entry] = []
        for entry in entries:
            turn, health = entry
            if health.turn != turn:
                continue
            if health.due > now or len(taken) >= limit:
                left.append(entry)
            else:
                health.turn += 1
                taken.append(health)
        return left

    def _clean(self) -> None:
        self.count = 0
        for number in list(self.slots):
            left = [entry for entry in self.slots[number] if entry[1].turn == entry[0]]
            if left:
                self.slots[number] = left
                self.count += len(left)
            else:
                del self.slots[number]
        self.size = self.count
