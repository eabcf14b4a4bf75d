"""Deadlines of connections: one coarse wheel instead of a timer each.

Rules:

* A `Timed` object has one ``deadline`` (monotonic seconds, 0.0 = none). Moving it
  *later* or clearing it is an attribute store and touches no structure; the wheel
  looks again when the old slot comes up and files the object anew.
* A deadline is never met early and at most one tick (`TICK` seconds) plus the
  driver's own lateness late.
* An object is filed in at most one slot. `TimerWheel.cancel` takes it out, so that what has
  ended is not kept alive until its old deadline.
* An exception in a time-out handler ends what it is about (`Timed.failed`), is kept in
  ``last_failure`` and counted; the others of its slot still fire.
* `TimerWheel.advance` is driven from outside with ``now``: no clock in here.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

TICK: Final = 0.1


@mypyc_attr(allow_interpreted_subclasses=True)
class Timed:
    """Something that can time out."""

    deadline: float
    filed: int
    __slots__ = tuple(__annotations__)

    def __init__(self) -> None:
        self.deadline = 0.0
        self.filed = 0

    def timed_out(self, now: float) -> None:
        """The deadline has passed; it is cleared already."""

    def failed(self, why: BaseException) -> None:
        """`timed_out` raised ``why``: end what this is about; must not raise."""


class TimerWheel:
    """Slots of `TICK` seconds, keyed by their number since time 0."""

    slots: dict[int, set[Timed]]
    current: int
    failures: int
    last_failure: BaseException | None

    def __init__(self, now: float) -> None:
        self.slots = {}
        self.current = int(now / TICK)
        self.failures = 0
        self.last_failure = None

    def arm(self, timed: Timed, deadline: float) -> None:
        """Have ``timed`` time out at ``deadline`` (monotonic seconds)."""
        timed.deadline = deadline
        if timed.filed == 0 or timed.filed * TICK > deadline + TICK:
            self._file(timed)

    def _file(self, timed: Timed) -> None:
        self._withdraw(timed)
        slot = int(timed.deadline / TICK) + 1
        if slot <= self.current:
            slot = self.current + 1
        timed.filed = slot
        entries = self.slots.get(slot)
        if entries is None:
            self.slots[slot] = {timed}
        else:
            entries.add(timed)

    def _withdraw(self, timed: Timed) -> None:
        if timed.filed:
            entries = self.slots.get(timed.filed)
            if entries is not None:
                entries.discard(timed)
            timed.filed = 0

    def cancel(self, timed: Timed) -> None:
        """Forget ``timed``, so that nothing here keeps it alive."""
        timed.deadline = 0.0
        self._withdraw(timed)

    def advance(self, now: float) -> int:
        """Fire what is due at ``now``; returns how many timed out."""
        fired = 0
        last = int(now / TICK)
        while self.current < last:
            self.current += 1
            entries = self.slots.pop(self.current, None)
            if entries is None:
                continue
            for timed in entries:
                if timed.filed != self.current:
                    continue  # cancelled or moved by one that fired before it
                timed.filed = 0
                if timed.deadline == 0.0:
                    continue
                if timed.deadline > now:
                    self._file(timed)
                    continue
                timed.deadline = 0.0
                fired += 1
                try:
                    timed.timed_out(now)
                except Exception as why:
                    self.failures += 1
                    self.last_failure = why
                    timed.failed(why)
        return fired
