"""How many requests of a rule may be tried again: a share of those it got lately.

Rules:

* A retry is allowed while those of the last ``window`` seconds are fewer than ``share`` of the first
  attempts in it, or than ``min_per_second`` times ``window``, whichever is more.
* Only what may have cost a backend work is charged: a failed connect and a stale idle connection are not.
* The window is `SLICES` slices; it moves on by one at a time, so it covers between nine tenths of
  ``window`` and all of it.
* Cost: one comparison and one addition per first attempt; everything is O(1). ``now`` never goes back.
"""

from __future__ import annotations

from typing import Final, final

SLICES: Final = 10


@final
class RetryBudget:
    """The budget of one rule in one worker."""

    share: float
    window: float
    min_per_second: float
    firsts: int  # in the whole slices of the window
    retries: int
    _slice_firsts: int  # in the running slice
    _slice_retries: int
    _slice_end: float
    _past_firsts: list[int]  # of the slices before, a ring
    _past_retries: list[int]
    _at: int

    def __init__(self, share: float, window: float, min_per_second: float) -> None:
        self.share = share
        self.window = window
        self.min_per_second = min_per_second
        self.firsts = 0
        self.retries = 0
        self._slice_firsts = 0
        self._slice_retries = 0
        self._slice_end = 0.0
        self._past_firsts = [0] * (SLICES - 1)
        self._past_retries = [0] * (SLICES - 1)
        self._at = 0

    def configure(self, share: float, window: float, min_per_second: float) -> None:
        """Other settings; what was counted stays, the running slice keeps its end."""
        self.share = share
        self.window = window
        self.min_per_second = min_per_second

    def count_first(self, now: float) -> None:
        """A request came."""
        if now >= self._slice_end:
            self._move_on(now)
        self._slice_firsts += 1

    def allows(self, now: float) -> bool:
        """One more retry is within the budget."""
        if now >= self._slice_end:
            self._move_on(now)
        retries = self.retries + self._slice_retries
        return retries < max(
            self.share * (self.firsts + self._slice_firsts), self.min_per_second * self.window
        )

    def charge(self, now: float) -> None:
        """A request is tried again."""
        if now >= self._slice_end:
            self._move_on(now)
        self._slice_retries += 1

    def _move_on(self, now: float) -> None:
        length = self.window / SLICES
        steps = int((now - self._slice_end) / length) + 1 if self._slice_end else SLICES
        for _ in range(min(steps, SLICES)):
            at = self._at
            self.firsts += self._slice_firsts - self._past_firsts[at]
            self.retries += self._slice_retries - self._past_retries[at]
            self._past_firsts[at] = self._slice_firsts
            self._past_retries[at] = self._slice_retries
            self._slice_firsts = 0
            self._slice_retries = 0
            self._at = at + 1 if at + 1 < SLICES - 1 else 0
        self._slice_end = now + length if steps >= SLICES else self._slice_end + steps * length
